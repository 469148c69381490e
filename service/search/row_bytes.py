"""Rows kept at a byte a number: what likely candidates are compared by."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from service.library.latents import LATENT_SIZE

_LARGEST = 0.75
"""Bytes stand for numbers from minus this to this. Of the numbers in embeddings of Big Buck Bunny
and Sintel none is larger than 0.53; an even step of 0.006 costs a cosine about 0.002."""
_STEP = 2 * _LARGEST / 255
_ROWS = 65_536
"""In a chunk: memory grows by so much and no more."""


class RowBytes:
    """Rows by id; ids begin with 0 and are used once."""

    def __init__(self) -> None:
        self._chunks: list[NDArray[np.uint8]] = []
        self._used: list[NDArray[np.bool_]] = []

    def put(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Keep rows [N, 200] of unit length."""
        levels = np.rint((vectors + _LARGEST) / _STEP)
        rows = np.clip(levels, 0, 255).astype(np.uint8)
        for number, chosen in _by_chunk(ids):
            while number >= len(self._chunks):
                self._chunks.append(np.empty((0, LATENT_SIZE), np.uint8))
                self._used.append(np.zeros(_ROWS, np.bool_))
            if not len(self._chunks[number]):
                self._chunks[number] = np.empty((_ROWS, LATENT_SIZE), np.uint8)
            places = ids[chosen] % _ROWS
            self._chunks[number][places] = rows[chosen]
            self._used[number][places] = True

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Drop rows; a chunk's memory is free when its last row is gone."""
        for number, chosen in _by_chunk(ids):
            if number < len(self._chunks):
                self._used[number][ids[chosen] % _ROWS] = False
                if not self._used[number].any():
                    self._chunks[number] = np.empty((0, LATENT_SIZE), np.uint8)

    def cosines(self, ids: NDArray[np.int64], query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosines of rows to a query [200] of unit length, [N]."""
        found = np.empty(len(ids), np.float32)
        for number, chosen in _by_chunk(ids):
            rows = self._chunks[number][ids[chosen] % _ROWS]
            found[chosen] = rows.astype(np.float32) @ query
        lowest = np.float32(_LARGEST * float(query.sum()))
        cosines: NDArray[np.float32] = found * np.float32(_STEP) - lowest
        return cosines

    def all(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield the ids [N] and vectors [N, 200] of all rows, some at a time."""
        for number, (chunk, used) in enumerate(zip(self._chunks, self._used, strict=True)):
            places = np.flatnonzero(used)
            if len(places):
                vectors = chunk[places].astype(np.float32) * np.float32(_STEP) - _LARGEST
                yield places + number * _ROWS, vectors.astype(np.float32)


def _by_chunk(ids: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each chunk's number, and which of the ids are in it."""
    numbers = ids // _ROWS
    order = np.argsort(numbers, kind="stable")
    distinct, starts = np.unique(numbers[order], return_index=True)
    yield from zip(distinct.tolist(), np.split(order, starts[1:]), strict=True)
