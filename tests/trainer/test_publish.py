import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor, nn
from tritonclient.grpc import model_config_pb2 as config_pb2

from tests.support.models import TinyDecoder, TinyEncoder
from trainer import publish as publish_module
from trainer.errors import ContractError, PublishError
from trainer.export import load_torchscript, save_torchscript
from trainer.publish import publish

CARD = {"recipe": "tiny", "films": [{"title": 'Zoë\'s "film"', "frames": 3}], "frames": 3}


def publish_tiny(repository: Path, seed: int = 1, name: str = "tiny") -> int:
    return publish(
        TinyEncoder(seed), TinyDecoder(seed), name=name, card=CARD, repository=repository
    )


def config_of(repository: Path, model: str) -> config_pb2.ModelConfig:
    text = (repository / model / "config.pbtxt").read_text("utf-8")
    return text_format.Parse(text, config_pb2.ModelConfig())


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_versions_count_up_and_earlier_ones_stay_as_they_are(tmp_path: Path) -> None:
    assert publish_tiny(tmp_path, 1) == 1
    before = {k: v for k, v in contents(tmp_path).items() if "config" not in k}
    assert [publish_tiny(tmp_path, seed) for seed in (2, 3)] == [2, 3]
    after = contents(tmp_path)
    assert {key: after[key] for key in before} == before
    assert {str(Path(key).parent) for key in after if key.endswith("model.pt")} == {
        f"tiny_{half}/{version}" for half in ("encoder", "decoder") for version in (1, 2, 3)
    }
    assert publish_tiny(tmp_path, 1, name="other") == 1


def test_the_configuration_is_what_triton_reads(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    encoder, decoder = config_of(tmp_path, "tiny_encoder"), config_of(tmp_path, "tiny_decoder")

    def tensors(listed: object) -> list[tuple[str, int, list[int]]]:
        return [(each.name, each.data_type, list(each.dims)) for each in listed]  # type: ignore[attr-defined]

    frame = [144, 256, 3]
    assert tensors(encoder.input) == [("INPUT__0", config_pb2.TYPE_UINT8, frame)]
    assert tensors(encoder.output) == [
        ("OUTPUT__0", config_pb2.TYPE_FP32, [200]),
        ("OUTPUT__1", config_pb2.TYPE_FP32, [200]),
    ]
    assert tensors(decoder.input) == [("INPUT__0", config_pb2.TYPE_FP32, [200])]
    assert tensors(decoder.output) == [
        ("OUTPUT__0", config_pb2.TYPE_UINT8, frame),
        ("OUTPUT__1", config_pb2.TYPE_FP32, [200]),
    ]
    for config in (encoder, decoder):
        assert config.backend == "pytorch"
        assert config.max_batch_size == 64
        assert config.HasField("dynamic_batching")
        # A delay and a cancelled call together hold the next one up for half a second.
        assert config.dynamic_batching.max_queue_delay_microseconds == 0
        assert config.version_policy.HasField("all")
        # KIND_AUTO: the GPU where there is one.
        assert not config.instance_group


def test_facts_of_every_version_travel_with_the_configuration(tmp_path: Path) -> None:
    for seed in (1, 2):
        publish_tiny(tmp_path, seed)
    encoder, decoder = config_of(tmp_path, "tiny_encoder"), config_of(tmp_path, "tiny_decoder")
    for version in (1, 2):
        files = [tmp_path / f"tiny_{half}/{version}/model.pt" for half in ("encoder", "decoder")]
        parts = b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
        digest = "sha256:" + hashlib.sha256(parts).hexdigest()
        card = json.loads(encoder.parameters[f"refilm.card.{version}"].string_value)
        for config in (encoder, decoder):
            assert config.parameters[f"refilm.digest.{version}"].string_value == digest
        assert (card["name"], card["version"], card["digest"]) == ("tiny", version, digest)
        assert card["films"] == CARD["films"]
        assert {"created", "git_revision", "torch", "recipe", "frames"} <= set(card)
        for file in files:
            assert json.loads((file.parent / "card.json").read_text("utf-8")) == card


def test_an_operators_choices_stay(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    config = config_of(tmp_path, "tiny_encoder")
    config.dynamic_batching.max_queue_delay_microseconds = 7
    config.instance_group.add(count=2)
    path = tmp_path / "tiny_encoder" / "config.pbtxt"
    path.write_text(text_format.MessageToString(config))
    publish_tiny(tmp_path, 2)
    config = config_of(tmp_path, "tiny_encoder")
    assert config.dynamic_batching.max_queue_delay_microseconds == 7
    assert config.instance_group[0].count == 2
    assert "refilm.digest.2" in config.parameters


def test_a_configuration_that_cannot_be_read_stops_it(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    (tmp_path / "tiny_encoder" / "config.pbtxt").write_text("name: {{{")
    before = contents(tmp_path)
    with pytest.raises(PublishError, match="not a Triton model configuration"):
        publish_tiny(tmp_path, 2)
    assert contents(tmp_path) == before


def test_files_of_a_run_are_published_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    save_torchscript(TinyEncoder(1), tmp_path / "run" / "encoder.pt")
    save_torchscript(TinyDecoder(1), tmp_path / "run" / "decoder.pt")
    files = (tmp_path / "run" / "encoder.pt", tmp_path / "run" / "decoder.pt")
    version = publish(*files, name="tiny", card=CARD, repository=tmp_path / "models")
    assert version == 1
    published = tmp_path / "models" / "tiny_encoder" / "1" / "model.pt"
    assert published.read_bytes() == files[0].read_bytes()
    load_torchscript(published)


@pytest.mark.parametrize(
    "name", ["", "Tiny", "1st", "a" * 64, "a/b", "..", "ti ny", "tiny_encoder", "tiny_decoder", "é"]
)
def test_names_that_no_model_may_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(PublishError, match="cannot name a model"):
        publish_tiny(tmp_path / "models", name=name)
    assert not (tmp_path / "models").exists()


class Wrapped(nn.Module):
    """A tiny encoder or decoder with something wrong with what it returns."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class OneOutput(Wrapped):
    def forward(self, frames: Tensor) -> Tensor:
        return self.inner(frames)[0]


class Short(Wrapped):
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents, embeddings = self.inner(frames)
        return latents[:, :199], embeddings


class Doubles(Wrapped):
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents, embeddings = self.inner(frames)
        return latents.double(), embeddings


class NotFinite(Wrapped):
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents, embeddings = self.inner(frames)
        return latents / (latents.abs().sum(1, keepdim=True) > 1e9).float(), embeddings


class Long(Wrapped):
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents, embeddings = self.inner(frames)
        return latents, embeddings * 2


class BatchNormal(Wrapped):
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents, embeddings = self.inner(frames)
        return latents - latents.mean(0, keepdim=True), embeddings


class Random(Wrapped):
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents, embeddings = self.inner(frames)
        return latents + 1e-7 * torch.randn_like(latents), embeddings


class ChangesItsInput(Wrapped):
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents, embeddings = self.inner(frames)
        frames.zero_()
        return latents, embeddings


class OneFrameOnly(Wrapped):
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents, embeddings = self.inner(frames.reshape(1, 144, 256, 3))
        return latents, embeddings


class OnTheCpu(Wrapped):
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents, embeddings = self.inner(frames)
        return latents + torch.zeros(200, device=torch.device("cpu")), embeddings


@pytest.mark.parametrize(
    ("wrap", "reason"),
    [
        (OneOutput, "must return two tensors"),
        (Short, r"latents must be torch.float32 \[\d, 200\], not torch.float32 \[\d, 199\]"),
        (Doubles, "not torch.float64"),
        (NotFinite, "not all finite"),
        (Long, "must have length 1"),
        (BatchNormal, "latents depend on the batch"),
        (Random, "different latents each time"),
        (ChangesItsInput, "changes the frames"),
        (OneFrameOnly, "fails on a batch of"),
        (OnTheCpu, r"has a device constant \(cpu\)"),
    ],
)
def test_an_encoder_that_breaks_the_contract_is_refused(
    tmp_path: Path, wrap: Callable[[nn.Module], nn.Module], reason: str
) -> None:
    publish_tiny(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ContractError, match=reason):
        publish(wrap(TinyEncoder(1)), TinyDecoder(1), name="tiny", card=CARD, repository=tmp_path)
    assert contents(tmp_path) == before


class FramesOnly(Wrapped):
    def forward(self, latents: Tensor) -> Tensor:
        return self.inner(latents)[0]


class Transposed(Wrapped):
    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        frames, embeddings = self.inner(latents)
        return frames.permute(0, 3, 1, 2), embeddings


class Floats(Wrapped):
    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        frames, embeddings = self.inner(latents)
        return frames.float(), embeddings


class OtherEmbeddings(Wrapped):
    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        frames, embeddings = self.inner(latents)
        return frames, -embeddings


class BatchDecoder(Wrapped):
    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        frames, _ = self.inner(latents - latents.mean(0, keepdim=True))
        return frames, self.inner(latents)[1]


@pytest.mark.parametrize(
    ("wrap", "reason"),
    [
        (FramesOnly, "must return two tensors"),
        (OtherEmbeddings, "embeddings are not the encoder's"),
        (Transposed, r"must be torch.uint8 \[\d, 144, 256, 3\], not torch.uint8 \[\d, 3, 144"),
        (Floats, "not torch.float32"),
        (BatchDecoder, "frames depend on the batch"),
    ],
)
def test_a_decoder_that_breaks_the_contract_is_refused(
    tmp_path: Path, wrap: Callable[[nn.Module], nn.Module], reason: str
) -> None:
    with pytest.raises(ContractError, match=reason):
        publish(TinyEncoder(1), wrap(TinyDecoder(1)), name="tiny", card=CARD, repository=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_card_that_json_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="card"):
        publish(
            TinyEncoder(1),
            TinyDecoder(1),
            name="tiny",
            card={"recipe": "tiny", "metrics": {"psnr": float("nan")}},
            repository=tmp_path,
        )
    assert list(tmp_path.iterdir()) == []


def publish_and_die(repository: Path, place: str, count: int) -> None:
    """Publish, and die by SIGKILL at the `count`-th call of one of the publisher's steps."""
    original = getattr(publish_module, place)
    calls = 0

    def dying(*arguments: object, **named: Any) -> object:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(publish_module, place, dying)
    publish_tiny(repository, 2)


@pytest.mark.parametrize(
    ("place", "count"),
    [
        ("_write_half", 2),
        ("validate", 1),
        ("write_config", 1),
        ("write_config", 2),
        ("sync", 1),  # the decoder is in place, the encoder not
        ("sync", 2),  # both are
    ],
)
def test_killed_at_any_step_what_was_published_stays_and_the_next_one_clears_up(
    tmp_path: Path, place: str, count: int
) -> None:
    publish_tiny(tmp_path, 1)
    before = {k: v for k, v in contents(tmp_path).items() if "config" not in k}
    child = multiprocessing.get_context("spawn").Process(
        target=publish_and_die, args=(tmp_path, place, count)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL

    after = contents(tmp_path)
    assert {key: after[key] for key in before} == before
    for half in ("encoder", "decoder"):
        assert "refilm.digest.1" in config_of(tmp_path, f"tiny_{half}").parameters

    version = publish_tiny(tmp_path, 3)
    assert version in (2, 3)
    halves = [tmp_path / f"tiny_{half}" for half in ("encoder", "decoder")]
    names = [{entry.name for entry in half.iterdir()} for half in halves]
    assert names[0] == names[1]
    assert str(version) in names[0] and not any("staging" in name for name in names[0])
    for path in halves:
        listed = {
            key.rpartition(".")[2]
            for key in config_of(tmp_path, path.name).parameters
            if key.startswith("refilm.digest.")
        }
        assert listed == names[0] - {"config.pbtxt"}


def publish_into(repository: Path, seed: int) -> int:
    return publish_tiny(repository, seed)


def test_publications_at_the_same_time_get_different_numbers(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        versions = pool.starmap(publish_into, [(tmp_path, seed) for seed in range(6)])
    assert sorted(versions) == [1, 2, 3, 4, 5, 6]
    digests = {
        config_of(tmp_path, "tiny_encoder").parameters[f"refilm.digest.{version}"].string_value
        for version in versions
    }
    assert len(digests) == 6


def test_a_repository_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(PublishError, match="Cannot write to the model repository"):
        publish_tiny(tmp_path / "models")
