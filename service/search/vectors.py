"""What all of search does with embeddings."""

import numpy as np
from numpy.typing import NDArray


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors [N, 200] at unit length: they are kept as float16, which is not exact."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), np.float32)
