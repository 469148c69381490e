"""Passages of a film that look like a query, found in the similarity of its frames, one by one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MARGIN = 0.1
"""A passage's frames are less than this below its best one; and between two passages the similarity
falls at least this far below the lesser one's best."""


class Span(NamedTuple):
    """One passage, in rows."""

    first: int
    end: int
    """The row after its last."""
    best: int
    similarity: float
    """Of its best frame; of several the first."""


def spans(similarity: NDArray[np.float32], minimum: float = 0.0) -> list[Span]:
    """Return the passages of consecutive frames, in order; they never overlap.

    Each is a peak of the similarity that stands out by at least MARGIN, with the frames around it
    that are less than MARGIN below. What lies beyond the ends is taken to be unlike the query, and
    so is what is less similar than MARGIN: two frames taken at random are.

    Args:
        similarity: of each frame to the query, [N].
        minimum: frames below it are left out.
    """
    values = similarity.tolist()
    least = max(minimum, MARGIN)
    return [_around(values, best, minimum) for best in _peaks(values) if values[best] >= least]


def reaches_out(similarity: NDArray[np.float32], minimum: float = 0.0) -> tuple[bool, bool]:
    """Return whether the first and the last passage may go on before and after these frames."""
    found = spans(similarity, minimum)
    if not found:
        return False, False
    return found[0].first == 0, found[-1].end == len(similarity)


def _peaks(values: list[float]) -> list[int]:
    """Return where the values stand out by at least MARGIN; of a plateau its first place."""
    peaks = []
    rising, top, valley = True, 0, 0
    for place, value in enumerate(values):
        if rising:
            if value > values[top]:
                top = place
            elif values[top] - value >= MARGIN:
                peaks.append(top)
                rising, valley = False, place
        elif value < values[valley]:
            valley = place
        elif value - values[valley] >= MARGIN:
            rising, top = True, place
    if rising and values:
        peaks.append(top)
    return peaks


def _around(values: list[float], best: int, minimum: float) -> Span:
    def belongs(place: int) -> bool:
        return values[best] - values[place] < MARGIN and values[place] >= minimum

    first, end = best, best + 1
    while first > 0 and belongs(first - 1):
        first -= 1
    while end < len(values) and belongs(end):
        end += 1
    return Span(first, end, best, values[best])
