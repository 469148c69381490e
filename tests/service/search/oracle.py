"""The whole list of hits as its definition says, from all frames at once."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.search.spans import MARGIN
from tests.support.stored_latents import Rows


@dataclass(frozen=True)
class Expected:
    film: str
    first: int
    end: int
    best: int
    similarity: float


def prominent(values: list[float]) -> list[int]:
    """Frames from which one must go down by MARGIN to come to a higher one, on either side."""

    def depth(ways: list[float], value: float, *, ties_are_higher: bool) -> float:
        lowest = value
        for other in ways:
            if other > value or (ties_are_higher and other == value):
                return value - lowest
            lowest = min(lowest, other)
        return float("inf")

    return [
        place
        for place, value in enumerate(values)
        if depth(values[:place][::-1], value, ties_are_higher=True) >= MARGIN
        and depth(values[place + 1 :], value, ties_are_higher=False) >= MARGIN
    ]


def hits(
    films: Mapping[str, Rows],
    query: NDArray[np.float32],
    *,
    minimum: float = 0.0,
    start: float | None = None,
    stop: float | None = None,
) -> list[Expected]:
    """Every peak in the similarity of a film's frames in order of its rank."""
    found = []
    for film, rows in films.items():
        seconds = np.array([float(second) for second in rows.seconds])
        inside = (seconds >= (start or 0)) & (seconds < (np.inf if stop is None else stop))
        places = np.flatnonzero(inside)
        if not len(places):
            continue
        embeddings = rows.embeddings[inside]
        cosines = (embeddings * query).sum(axis=1) / np.sqrt((embeddings**2).sum(axis=1))
        values = np.clip(cosines, 0, 1).tolist()
        for best in prominent(values):
            near = [value >= minimum and values[best] - value < MARGIN for value in values]
            first = end = best
            while first > 0 and near[first - 1]:
                first -= 1
            while end < len(values) and near[end]:
                end += 1
            if values[best] >= max(minimum, MARGIN):
                low = int(places[0])
                found.append(Expected(film, low + first, low + end, low + best, values[best]))
    return sorted(found, key=lambda hit: (-hit.similarity, hit.film, hit.best))
