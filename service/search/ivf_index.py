"""Approximate search in many rows, in two steps. Uses faiss.

An inverted file: rows are stored in lists of neighbours. A query scans the nearest lists by product
quantization codes of 4 bits for two numbers, which takes a few nanoseconds a row, and re-ranks the
best rows by a byte a number.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from service.library.latents import LATENT_SIZE
from service.search.candidates import unit

MAX_LISTS = 4096
LIST_SAMPLE = 40
"""Training rows for each list, at most; faiss requires at least 39."""
_PROBE_SHARE = 0.25
_QUICK_SHARE = 0.02
"""Share of the lists that are scanned. Embeddings are spread so evenly that the tenth best row of a
query is as likely as not in a list far from the query's own."""
_LIKELY = 500
"""Minimum number of rows to re-rank; of a hundred thousand rows it always had the ten best."""
_CODES = LATENT_SIZE // 2
_CODE_SAMPLE = 20_000
_ROUNDS = 10
_ROWS_AT_ONCE = 4096
_LARGEST = 0.75
"""Bytes stand for numbers from minus this to this. Of the numbers in embeddings of Big Buck Bunny
and Sintel none is larger than 0.53; an even step of 0.006 costs a cosine about 0.002."""
_STEP = 2 * _LARGEST / 255
_CHUNK_ROWS = 65_536
"""Memory grows by so much and no more."""


class StoppedError(Exception):
    """The operation was stopped because the service is shutting down."""


def lists_for(rows: int) -> int:
    """Return the number of lists for so many rows: about four times the root, a power of 2."""
    return min(MAX_LISTS, 1 << round(math.log2(4.0 * rows**0.5)))


class _RowBytes:
    """Rows by id, kept at a byte a number; ids begin with 0 and are used once."""

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
                self._used.append(np.zeros(_CHUNK_ROWS, np.bool_))
            if not len(self._chunks[number]):
                self._chunks[number] = np.empty((_CHUNK_ROWS, LATENT_SIZE), np.uint8)
            places = ids[chosen] % _CHUNK_ROWS
            self._chunks[number][places] = rows[chosen]
            self._used[number][places] = True

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Drop rows; a chunk's memory is free when its last row is gone."""
        for number, chosen in _by_chunk(ids):
            if number < len(self._chunks):
                self._used[number][ids[chosen] % _CHUNK_ROWS] = False
                if not self._used[number].any():
                    self._chunks[number] = np.empty((0, LATENT_SIZE), np.uint8)

    def cosines(self, ids: NDArray[np.int64], query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosines of rows to a query [200] of unit length, [N]."""
        found = np.empty(len(ids), np.float32)
        for number, chosen in _by_chunk(ids):
            rows = self._chunks[number][ids[chosen] % _CHUNK_ROWS]
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
                yield places + number * _CHUNK_ROWS, vectors.astype(np.float32)


class TrainedIndex:
    """Rows by id; concurrent searches are safe, changes need exclusive access."""

    def __init__(self, index: Any, rows: _RowBytes) -> None:
        self._index = index  # faiss' types do not know all that it has
        self._rows = rows
        self.lists = int(index.nlist)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @classmethod
    def train(
        cls,
        sample: NDArray[np.float32],
        lists: int,
        stopped: Callable[[], bool],
        old: "TrainedIndex | None" = None,
    ) -> "TrainedIndex":
        """Return an index whose lists are trained on a sample of unit length [N, 200].

        It has the rows of `old`, and shares their bytes with it: from now on only one of the two
        may be changed. Raises StoppedError soon after `stopped` returns True.
        """
        centres = faiss.IndexFlatIP(LATENT_SIZE)
        clustering = faiss.Clustering(LATENT_SIZE, lists)
        clustering.spherical = True
        # One iteration at a time, from the centres of the one before, so that it can be stopped.
        clustering.niter = 1
        clustering.min_points_per_centroid = 1
        clustering.max_points_per_centroid = len(sample)
        for _ in range(_ROUNDS):
            if stopped():
                raise StoppedError
            clustering.train(sample, centres)
        index = faiss.IndexIVFPQFastScan(
            centres, LATENT_SIZE, lists, _CODES, 4, faiss.METRIC_INNER_PRODUCT
        )
        index.train(sample[:: max(1, len(sample) // _CODE_SAMPLE)])
        trained = cls(index, _RowBytes() if old is None else old._rows)
        for ids, vectors in trained._rows.all():
            for start in range(0, len(ids), _ROWS_AT_ONCE):
                if stopped():
                    raise StoppedError
                some = slice(start, start + _ROWS_AT_ONCE)
                index.add_with_ids(vectors[some], ids[some])
        return trained

    def add(self, vectors: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        """Add rows of unit length [N, 200]; slow for thousands."""
        self._rows.put(ids, vectors)
        self._index.add_with_ids(vectors, ids)

    def sample(self, count: int, random: np.random.Generator) -> NDArray[np.float32]:
        """Return about `count` of the rows, of unit length, [N, 200]."""
        share = min(1.0, count / max(1, len(self)))
        chosen = [vectors[random.random(len(ids)) < share] for ids, vectors in self._rows.all()]
        return unit(np.concatenate(chosen))

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Remove rows."""
        self._index.remove_ids(faiss.IDSelectorBatch(ids))
        self._rows.remove(ids)

    def search(
        self,
        queries: NDArray[np.float32],
        count: int,
        selector: Any,
        share: float,
        *,
        quick: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return similarities and ids [N, count], best first, id -1 where there are no more.

        Args:
            queries: [N, 200], of unit length.
            count: how many rows a query.
            selector: faiss' IDSelector of the rows that may be found, or None.
            share: of the rows that it selects; the fewer, the more lists are scanned.
            quick: scans few lists: finds the most similar rows only.
        """
        probe_share = _QUICK_SHARE if quick else _PROBE_SHARE
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = min(
            self.lists, math.ceil(max(16, probe_share * self.lists) / max(share, 1e-9))
        )
        if selector is not None:
            parameters.sel = selector
        likely = max(_LIKELY, 2 * count)
        _, found = self._index.search(queries, likely, params=parameters)
        similarities = np.full((len(queries), count), -np.inf, np.float32)
        ids = np.full((len(queries), count), -1, np.int64)
        for place, query in enumerate(queries):
            rows = found[place][found[place] >= 0]
            cosines = self._rows.cosines(rows, query)
            best = np.argsort(-cosines, kind="stable")[:count]
            similarities[place, : len(best)], ids[place, : len(best)] = cosines[best], rows[best]
        return similarities, ids


def _by_chunk(ids: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each chunk's number, and which of the ids are in it."""
    numbers = ids // _CHUNK_ROWS
    order = np.argsort(numbers, kind="stable")
    distinct, starts = np.unique(numbers[order], return_index=True)
    yield from zip(distinct.tolist(), np.split(order, starts[1:]), strict=True)
