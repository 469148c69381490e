"""Re-ranks candidates by exact similarity, into passages exact to the frame."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from service.library.latents import Latents, LatentsManifest
from service.search.index import RowIndex
from service.search.spans import reaches_out, spans

_MAX_REACH = 64
"""Last step in indexed rows (about seconds) by which a passage is extended: one that extends over
more than about two minutes around its candidates may be reported as several."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query to the films of one model."""

    digest: str
    """The model's, "sha256:…"."""
    embeddings: NDArray[np.float32]
    """[Q, 200], of unit length; a frame's similarity is that to the nearest."""
    films: frozenset[str] | None = None
    """Only films with these ids; None: all."""
    start: Fraction | None = None
    """Only frames from here on, in seconds from each film's first; None: from there."""
    stop: Fraction | None = None
    """And before this; None: to the end."""
    minimum: float = 0.0
    """Only frames at least so similar."""
    own: tuple[str, str, int] | None = None
    """The query's own frame, as film id, uid and row; it is among the results."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A range of frames of a film that all match the query."""

    film: str
    """The film's id."""
    film_uid: str
    first: int
    end: int
    """The row after its last."""
    best: int
    similarity: float
    """Of its best frame: the cosine of the embeddings, 0 where it is negative."""


def passages(
    latents: Latents,
    index: RowIndex,
    manifest: LatentsManifest,
    question: Question,
    rows: Iterable[int],
) -> list[Passage]:
    """Return the passages of a film around some rows, in order. Blocks.

    Compares all frames around the candidates, and further ones while a passage continues. Raises
    DamagedError.
    """
    film = _Film(latents, index, manifest, question)
    ranges = [film.around(row, row, 1) for row in rows]
    reach = 1
    while True:
        ranges = _merged(ranges)
        found = [film.similarity(range_) for range_ in ranges]
        if reach > _MAX_REACH:
            break
        wider = []
        for (low, high), similarity in zip(ranges, found, strict=True):
            before, after = reaches_out(similarity, question.minimum)
            around = film.around(low, high - 1, reach)
            wider.append((around[0] if before else low, around[1] if after else high))
        if wider == ranges:
            break
        ranges, reach = wider, 2 * reach
    return [
        Passage(
            manifest.film,
            manifest.film_uid,
            low + span.first,
            low + span.end,
            low + span.best,
            span.similarity,
        )
        for (low, _), similarity in zip(ranges, found, strict=True)
        for span in spans(similarity, question.minimum)
    ]


class _Film:
    """The similarity of a film's frames to a query, read lazily."""

    def __init__(
        self, latents: Latents, index: RowIndex, manifest: LatentsManifest, question: Question
    ) -> None:
        self._latents = latents
        self._index = index
        self._manifest = manifest
        self._embeddings = question.embeddings
        self._low, self._high = 0, manifest.rows
        if question.start is not None or question.stop is not None:
            self._low, self._high = latents.rows_between(manifest, question.start, question.stop)
        self._starts = manifest.starts()
        self._known = np.full(manifest.rows, np.nan, np.float32)

    def around(self, first: int, last: int, reach: int) -> tuple[int, int]:
        """Return the rows from `reach` indexed ones before `first` to as many after `last`.

        Only rows that the query allows; an empty range if there are none.
        """
        film, uid = self._manifest.film, self._manifest.film_uid
        before = self._index.window(film, uid, first, reach)
        after = self._index.window(film, uid, last, reach)
        low = max(self._low, before[0] if before else first)
        high = min(self._high, after[1] if after else last + 1)
        return low, max(low, high)

    def similarity(self, range_: tuple[int, int]) -> NDArray[np.float32]:
        """Return the similarity of a range of rows, 0 to 1."""
        low, high = range_
        unknown = low + np.flatnonzero(np.isnan(self._known[low:high]))
        # Whole parts at a time: a request costs more than the bytes of a part's other rows, and
        # those are often needed next.
        for part in sorted({bisect_right(self._starts, row) - 1 for row in unknown.tolist()}):
            start = self._starts[part]
            stop = start + self._manifest.parts[part].rows
            rows = self._latents.embeddings(self._manifest, start, stop)
            self._known[start:stop] = similarity_of(rows, self._embeddings)
        return self._known[low:high]


def similarity_of(
    rows: NDArray[np.float32], embeddings: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the similarity of rows [N, 200] to the nearest of embeddings [Q, 200]: [N], 0 to 1.

    Bit-exact whatever other rows are in the batch.
    """
    lengths = np.sqrt((rows * rows).sum(axis=1))
    cosines = np.stack([(rows * embedding).sum(axis=1) for embedding in embeddings]).max(axis=0)
    similarity: NDArray[np.float32] = np.clip(cosines / np.maximum(lengths, 1e-6), 0.0, 1.0)
    return similarity


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges in order, overlapping and adjacent ones merged, without empty ones."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if low == high:
            continue
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], high)
        else:
            merged.append((low, high))
    return merged
