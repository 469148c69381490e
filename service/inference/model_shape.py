"""The shape of a model's latents and frames, according to Triton's configuration."""

from typing import NamedTuple

from tritonclient.grpc.model_config_pb2 import ModelConfig

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH

LATENT_SIZE = 200


class ModelShape(NamedTuple):
    """The sizes of a model's inputs and outputs."""

    latent_size: int
    """Values in a latent."""
    frame_width: int
    """Of the encoded and decoded frames, in pixels; so is the next field."""
    frame_height: int


SERVED = ModelShape(LATENT_SIZE, MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT)
"""The only shape this service supports: frames are scaled and films stored for it."""


def model_shape(encoder: ModelConfig, decoder: ModelConfig) -> ModelShape | None:
    """Return the shape that both configurations share; None if they are not such a pair.

    An encoder takes frames [height, width, 3] and returns latents and embeddings; its decoder takes
    latents and returns frames and embeddings.
    """
    tensors = (encoder.input, encoder.output, decoder.input, decoder.output)
    if [len(several) for several in tensors] != [1, 2, 1, 2]:
        return None
    frames = {tuple(tensor.dims) for tensor in (encoder.input[0], decoder.output[0])}
    latents = {
        tuple(tensor.dims) for tensor in (*encoder.output, decoder.input[0], decoder.output[1])
    }
    if len(frames) != 1 or len(latents) != 1:
        return None
    frame, latent = frames.pop(), latents.pop()
    if len(frame) != 3 or frame[2] != 3 or len(latent) != 1 or min(*frame, *latent) < 1:
        return None
    height, width, _ = frame
    return ModelShape(latent[0], width, height)
