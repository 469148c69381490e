"""Approximate search in many rows: an inverted file of lists, a byte a number. Knows faiss."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from service.storage.latents import LATENT_SIZE

MOST_LISTS = 4096
LIST_SAMPLE = 40
"""Rows a list is trained on, at most; fewer than 39 are too few (faiss' rule)."""
_LARGEST = 0.75
"""Bytes stand for numbers from minus this to this. Of a hundred thousand numbers in embeddings of
Big Buck Bunny one is larger than 0.63; an even step of 0.006 costs a cosine about 0.002."""
_ROUNDS = 10
_ROWS_AT_ONCE = 16_384


class StoppedError(Exception):
    """The service ends, and what was under way with it."""


def lists_for(rows: int) -> int:
    """Return how many lists to keep so many rows in: about four times the root, a power of 2."""
    return min(MOST_LISTS, 1 << round(math.log2(4.0 * rows**0.5)))


def probes_for(lists: int) -> int:
    """Return how many of the lists to look through for a query."""
    return max(16, lists // 32)


class TrainedIndex:
    """Rows by id; searched by several threads at once, changed by one that is alone."""

    def __init__(self, index: Any) -> None:
        self._index = index  # faiss' types do not know all that it has
        self.lists = int(index.nlist)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @classmethod
    def train(
        cls,
        sample: NDArray[np.float32],
        lists: int,
        stopped: Callable[[], bool],
    ) -> "TrainedIndex":
        """Return an index without rows, its lists laid out by a sample of unit length [N, 200].

        Raises StoppedError soon after `stopped` says so.
        """
        centres = faiss.IndexFlatIP(LATENT_SIZE)
        clustering = faiss.Clustering(LATENT_SIZE, lists)
        clustering.spherical = True
        # Round by round, each beginning with the centres of the one before: so it can be stopped.
        clustering.niter = 1
        clustering.min_points_per_centroid = 1
        clustering.max_points_per_centroid = len(sample)
        for _ in range(_ROUNDS):
            if stopped():
                raise StoppedError
            clustering.train(sample, centres)
        index = faiss.IndexIVFScalarQuantizer(
            centres,
            LATENT_SIZE,
            lists,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
            False,  # the numbers themselves, not what they differ by from the list's centre
        )
        index.train(sample[:1])
        # Not what the sample's numbers lie between: those of films to come may lie further out.
        levels = np.repeat(np.array([-_LARGEST, 2 * _LARGEST], np.float32), LATENT_SIZE)
        faiss.copy_array_to_vector(levels, index.sq.trained)
        return cls(index)

    def assign(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the lists that vectors [N, 200] belong to. Slow; needs no lock."""
        return np.concatenate(
            [
                self._index.quantizer.assign(vectors[start : start + _ROWS_AT_ONCE], 1).reshape(-1)
                for start in range(0, len(vectors), _ROWS_AT_ONCE)
            ]
        )

    def add(
        self, vectors: NDArray[np.float32], ids: NDArray[np.int64], lists: NDArray[np.int64]
    ) -> None:
        """Add rows, each to the list that `assign` said."""
        self._index.add_core(
            len(vectors), faiss.swig_ptr(vectors), faiss.swig_ptr(ids), faiss.swig_ptr(lists)
        )

    def take_over(self, other: "TrainedIndex", stopped: Callable[[], bool]) -> None:
        """Add all rows of another index, byte by byte; raises StoppedError."""
        for ids, codes in other._by_list():
            if stopped():
                raise StoppedError
            lists = self.assign(self._index.sq.decode(codes))
            inverted = self._index.invlists
            for number in np.unique(lists):
                chosen = lists == number
                # Named, for pointers do not keep alive what they point to.
                some_ids, some_codes = ids[chosen], codes[chosen]
                inverted.add_entries(
                    int(number),
                    len(some_ids),
                    faiss.swig_ptr(some_ids),
                    faiss.swig_ptr(some_codes),
                )
            self._index.ntotal += len(ids)

    def sample(self, count: int, random: np.random.Generator) -> NDArray[np.float32]:
        """Return about `count` of the rows' vectors, [N, 200]."""
        share = min(1.0, count / max(1, len(self)))
        chosen = [
            self._index.sq.decode(np.ascontiguousarray(codes[random.random(len(codes)) < share]))
            for _, codes in self._by_list()
        ]
        return np.concatenate(chosen)

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Remove rows."""
        self._index.remove_ids(faiss.IDSelectorBatch(ids))

    def search(
        self,
        queries: NDArray[np.float32],
        count: int,
        selector: faiss.IDSelector | None,
        share: float,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return similarities and ids [N, count], best first, id -1 where there are no more.

        `share`: how many of the rows the selector lets through; the fewer, the more lists are
        looked through.
        """
        probes = min(self.lists, math.ceil(probes_for(self.lists) / max(share, 1e-9)))
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe, parameters.sel = probes, selector
        similarities, ids = self._index.search(queries, count, params=parameters)
        return similarities, ids

    def _by_list(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield copies of each list's ids [N] and codes [N, bytes]; of none that is empty."""
        inverted, width = self._index.invlists, self._index.code_size
        for number in range(self.lists):
            size = inverted.list_size(number)
            if size:
                ids = faiss.rev_swig_ptr(inverted.get_ids(number), size)
                codes = faiss.rev_swig_ptr(inverted.get_codes(number), size * width)
                yield ids.copy(), codes.reshape(size, width).copy()
