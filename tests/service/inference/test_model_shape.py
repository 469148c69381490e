"""What a model's configuration says of its latents and frames."""

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from service.inference.model_shape import SERVED, ModelShape, model_shape

FRAME, LATENT = [144, 256, 3], [200]


def config(inputs: list[list[int]], outputs: list[list[int]]) -> ModelConfig:
    made = ModelConfig()
    for dims in inputs:
        made.input.add(dims=dims)
    for dims in outputs:
        made.output.add(dims=dims)
    return made


ENCODER = config([FRAME], [LATENT, LATENT])
DECODER = config([LATENT], [FRAME, LATENT])


def test_the_shape_is_read_from_both_configurations() -> None:
    assert model_shape(ENCODER, DECODER) == SERVED == ModelShape(200, 256, 144)
    small = [72, 128, 3]
    encoder, decoder = config([small], [[64], [64]]), config([[64]], [small, [64]])
    assert model_shape(encoder, decoder) == ModelShape(64, 128, 72)


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        (ENCODER, config([LATENT], [[144, 256], LATENT])),
        (ENCODER, config([LATENT], [[72, 128, 3], LATENT])),
        (ENCODER, config([[100]], [FRAME, [100]])),
        (ENCODER, config([LATENT], [FRAME, [100]])),
        (ENCODER, config([LATENT], [FRAME])),
        (config([FRAME], [LATENT]), DECODER),
        (config([FRAME], [LATENT, [100]]), DECODER),
        (config([[144, 256, 4]], [LATENT, LATENT]), config([LATENT], [[144, 256, 4], LATENT])),
        (config([[-1, -1, 3]], [LATENT, LATENT]), config([LATENT], [[-1, -1, 3], LATENT])),
        (config([], []), config([], [])),
    ],
)
def test_what_is_no_pair_has_none(encoder: ModelConfig, decoder: ModelConfig) -> None:
    assert model_shape(encoder, decoder) is None
