"""The train/held-out split: whole blocks of film time, never scattered frames.

Neighbouring frames are nearly the same picture, so a frame held out between two fitted ones would
measure memory, not generalisation.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

BLOCK_SECONDS = 10
HELD_OUT_EVERY = 5


def held_out(
    pts: NDArray[np.int64], time_base: Fraction, start: int, end: int
) -> NDArray[np.bool_]:
    """Return which frames of one film are held out: those of every fifth whole 10-second block.

    Blocks are contiguous from the film's first frame on; an incomplete last block is never held
    out. A film under 50 seconds has nothing held out.

    Args:
        pts: Presentation times in units of `time_base`, ``[N]``.
        time_base: Seconds.
        start: When the film's first picture is shown.
        end: When the film's last picture ends.

    Returns:
        ``[N]``, true where held out.
    """
    blocks = block_numbers(pts, time_base, start)
    whole = int((end - start) * time_base // BLOCK_SECONDS)
    result: NDArray[np.bool_] = (blocks % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) & (blocks < whole)
    return result


def block_numbers(pts: NDArray[np.int64], time_base: Fraction, start: int) -> NDArray[np.int64]:
    """Return the number of each frame's block, from 0, in exact integer arithmetic."""
    ticks = time_base.denominator * BLOCK_SECONDS
    numbers: NDArray[np.int64] = (pts - start) * time_base.numerator // ticks
    return numbers
