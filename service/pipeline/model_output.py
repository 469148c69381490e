"""The model's output for a batch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from service.inference import LATENT_SIZE


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The output for N frames."""

    latents: NDArray[np.float32]
    """[N, 200]"""
    embeddings: NDArray[np.float32]
    """[N, 200], of unit length."""
    frames: NDArray[np.uint8]
    """[N, 144, 256, 3] RGB."""


NO_MODEL_OUTPUT = ModelOutput(
    np.empty((0, LATENT_SIZE), np.float32),
    np.empty((0, LATENT_SIZE), np.float32),
    np.empty((0, MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3), np.uint8),
)
