"""Search results of an index. Independent of faiss."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Candidate:
    """One indexed row, about one a second of each film."""

    film: str
    """The film's id."""
    film_uid: str
    row: int
    """Its number in the film's latents."""
    seconds: float
    """From the film's first frame."""
    similarity: float
    """The cosine of the embeddings, -1 to 1; in a large index, which stores a byte a number,
    accurate to about 0.01."""


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors [N, 200] at unit length: they are kept as float16, which is not exact."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), np.float32)
