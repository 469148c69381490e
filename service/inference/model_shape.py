"""What a model's latents and frames look like, as Triton's configuration has it."""

from typing import NamedTuple

from tritonclient.grpc.model_config_pb2 import ModelConfig

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH

LATENT_SIZE = 200


class ModelShape(NamedTuple):
    """The sizes of what goes into a model and comes out of it."""

    latent_size: int
    """Numbers in a latent."""
    frame_width: int
    """Pixels of the frames that are encoded and decoded, likewise the next."""
    frame_height: int


SERVED = ModelShape(LATENT_SIZE, MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT)
"""What this service can serve: its frames are scaled and its films kept for no other."""


def model_shape(encoder: ModelConfig, decoder: ModelConfig) -> ModelShape | None:
    """Return the shape on which both configurations agree; None if they are no such pair.

    An encoder takes frames [height, width, 3] and gives latents and embeddings; its decoder takes
    latents and gives frames and embeddings.
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
