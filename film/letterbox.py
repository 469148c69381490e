"""Detects bars around a film's picture: letterbox, pillarbox or both, symmetric or not.

A bar is detected from several pictures of a film: it stays dark and static while the picture next
to it changes, and it ends in a straight edge across the picture. A dark picture has no such edge.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DARKEST_LEVEL = 72
"""Luma of the brightest bars: black ones after strong brightening."""
_NOISE = 10
"""Compression noise of a bar's pixel, in levels."""
_BAR_SHARE = 0.65
"""Minimum share of bar in a bar's row; the rest may be a logo or subtitles."""
_LIT = 14
"""Levels by which a pixel of the picture must at some time exceed the bars."""
_LIT_SHARE = 0.35
"""By this share, more of a row beside the bar is lit than of the bar's own rows."""
_EDGE_ROWS = 4
"""Rows after the bar's last within which the picture must appear; as many rows before must be all
bar, or the edge is that of a round object."""
_EDGE_LOSS = 0.1
"""How much of the share of bar may be lost towards the edge."""
_LARGEST_SHARE = 0.4
"""Largest bar, as a share of the picture's height or width."""
_LEAST_ROWS = 2


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars around a stored picture, in its pixels."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.left or self.top or self.right or self.bottom)


NO_BARS = Bars()


class BarsFinder:
    """Finds the bars that some pictures of one film have in common.

    Memory: two pictures, however many are added.
    """

    def __init__(self) -> None:
        self._brightest: NDArray[np.uint8] | None = None
        self._darkest: NDArray[np.uint8] | None = None

    def add(self, luma: NDArray[np.uint8]) -> None:
        """Add a picture's luma, [H, W], 0 to 255.

        If the pictures of a film change size, only those of the first one's size count.
        """
        if self._brightest is None or self._darkest is None:
            self._brightest, self._darkest = luma.copy(), luma.copy()
        elif luma.shape == self._brightest.shape:
            np.maximum(self._brightest, luma, out=self._brightest)
            np.minimum(self._darkest, luma, out=self._darkest)

    def find(self) -> Bars:
        """Return the bars; none if no picture was added."""
        if self._brightest is None or self._darkest is None:
            return NO_BARS
        brightest = self._brightest.astype(np.int16)
        still = brightest - self._darkest <= _NOISE
        # Twice: bars at the sides reduce the share of picture in each row, and vice versa.
        top, bottom = _pair(brightest, still)
        rows = slice(top, brightest.shape[0] - bottom)
        left, right = _pair(brightest[rows].T, still[rows].T)
        columns = slice(left, brightest.shape[1] - right)
        top, bottom = _pair(brightest[:, columns], still[:, columns])
        return Bars(left, top, right, bottom)


def _pair(brightest: NDArray[np.int16], still: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many rows at the top and at the bottom are bars.

    If one's edge is not visible because the picture is dark there, the other's height is used.
    """
    top, bottom = _bar(brightest, still), _bar(brightest[::-1], still[::-1])
    if top and not bottom and _is_bar(brightest[: -top - 1 : -1], still[: -top - 1 : -1]):
        bottom = top
    elif bottom and not top and _is_bar(brightest[:bottom], still[:bottom]):
        top = bottom
    return top, bottom


def _is_bar(brightest: NDArray[np.int16], still: NDArray[np.bool_]) -> bool:
    """Return whether these rows, outermost first, may be a bar."""
    level = int(np.median(brightest[0]))
    dark = still & (np.abs(brightest - level) <= _NOISE)
    return level <= _DARKEST_LEVEL and float(np.median(dark.mean(axis=1))) >= _BAR_SHARE


def _bar(brightest: NDArray[np.int16], still: NDArray[np.bool_]) -> int:
    """Return how many rows at the top are a bar."""
    level = int(np.median(brightest[0]))
    if level > _DARKEST_LEVEL:
        return 0
    dark = still & (np.abs(brightest - level) <= _NOISE)
    share = dark.mean(axis=1)
    # Two rows at once: a single one may be ringing of the edge from compression.
    inside = np.flatnonzero(np.maximum(share[:-1], share[1:]) < _BAR_SHARE)
    height = int(inside[0]) if len(inside) else len(share)
    if not _LEAST_ROWS <= height <= _LARGEST_SHARE * len(share):
        return 0
    usual = float(np.median(share[:height]))
    if share[max(0, height - _EDGE_ROWS) : height - 1].max() < usual - _EDGE_LOSS:
        return 0
    lit = (brightest[: height + _EDGE_ROWS] > level + _LIT).mean(axis=1)
    if lit[height:].max() < float(np.median(lit[:height])) + _LIT_SHARE:
        return 0
    return height
