"""Layout of a published model in a Triton model repository: folders, names, config.pbtxt.

    <repository>/<name>_encoder/config.pbtxt
    <repository>/<name>_encoder/<version>/model.pt, card.json
    <repository>/<name>_decoder/…                            the same

One configuration serves NVIDIA's container (libtorch, GPU) and the local Triton alike. Facts of a
version travel as configuration parameters with the version in their key, since parameters belong
to a model as a whole: `refilm.digest.<version>` on both, `refilm.card.<version>` on the encoder.
"""

import re
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import (
    TYPE_FP32,
    TYPE_UINT8,
    ModelConfig,
    ModelInput,
    ModelOutput,
    ModelVersionPolicy,
)

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from trainer.durable import replace_text
from trainer.errors import PublishError
from trainer.export import LATENT_SIZE

MAX_BATCH_SIZE = 64
ENCODER, DECODER = "encoder", "decoder"

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_FRAME = [MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3]
_LATENT = [LATENT_SIZE]


def check_name(name: str) -> None:
    """Check a model's name.

    Raises:
        PublishError: The name is invalid; the message has the rule.
    """
    if not _NAME.fullmatch(name):
        raise PublishError(
            f"{name!r} cannot name a model: 1 to 63 of a-z, 0-9, '_' and '-', a letter first"
        )
    if name.endswith((f"_{ENCODER}", f"_{DECODER}")):
        raise PublishError(
            f"{name!r} cannot name a model: leave out the suffix, publishing adds it to each half"
        )


def versions(model: Path) -> list[int]:
    """List the versions in a model's folder, ascending; none where there is no folder."""
    if not model.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in model.iterdir()
        if entry.is_dir() and re.fullmatch(r"[1-9][0-9]*", entry.name)
    )


def read_config(model: Path) -> ModelConfig:
    """Read a model's config.pbtxt; an empty configuration where there is none.

    Raises:
        PublishError: The file is not a model configuration.
    """
    path = model / "config.pbtxt"
    if not path.exists():
        return ModelConfig()
    try:
        return text_format.Parse(path.read_text("utf-8"), ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise PublishError(f"{path} is not a Triton model configuration: {error}") from error


def complete_config(config: ModelConfig, name: str, half: str) -> None:
    """Set what the contract asks of a half's configuration and leave an operator's choices.

    Instance groups, priorities, a queue delay and the like stay as they are.
    """
    known = bool(config.name)
    config.name = f"{name}_{half}"
    config.backend = "pytorch"
    config.max_batch_size = MAX_BATCH_SIZE
    del config.input[:]
    del config.output[:]
    if half == ENCODER:
        config.input.append(ModelInput(name="INPUT__0", data_type=TYPE_UINT8, dims=_FRAME))
        config.output.append(ModelOutput(name="OUTPUT__0", data_type=TYPE_FP32, dims=_LATENT))
        config.output.append(ModelOutput(name="OUTPUT__1", data_type=TYPE_FP32, dims=_LATENT))
    else:
        config.input.append(ModelInput(name="INPUT__0", data_type=TYPE_FP32, dims=_LATENT))
        config.output.append(ModelOutput(name="OUTPUT__0", data_type=TYPE_UINT8, dims=_FRAME))
        config.output.append(ModelOutput(name="OUTPUT__1", data_type=TYPE_FP32, dims=_LATENT))
    config.version_policy.all.CopyFrom(ModelVersionPolicy.All())
    if known:
        return
    # No queue delay: requests that wait while the model runs form the next batch. With a delay, a
    # request cancelled during it leaves Triton's batcher asleep, and the next waits half a second.
    config.dynamic_batching.SetInParent()
    # For libtorch: no autograd, and no executor that recompiles for every batch size.
    config.parameters["INFERENCE_MODE"].string_value = "true"
    config.parameters["DISABLE_OPTIMIZED_EXECUTION"].string_value = "true"


def set_facts(config: ModelConfig, version: int, digest: str, card: str | None) -> None:
    """Write a version's facts into the parameters of a half's configuration."""
    config.parameters[f"refilm.digest.{version}"].string_value = digest
    if card is not None:
        config.parameters[f"refilm.card.{version}"].string_value = card


def drop_facts(config: ModelConfig, kept: set[int]) -> None:
    """Remove the facts of all other versions."""
    for key in list(config.parameters):
        match = re.fullmatch(r"refilm\.(?:digest|card)\.([0-9]+)", key)
        if match and int(match[1]) not in kept:
            del config.parameters[key]


def write_config(model: Path, config: ModelConfig) -> None:
    """Replace a model's config.pbtxt atomically."""
    replace_text(model / "config.pbtxt", text_format.MessageToString(config, as_utf8=True))
