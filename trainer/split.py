"""Which frames are held out from training: whole blocks of film time, never scattered frames.

Neighbouring frames are nearly the same picture, so a frame held out between two fitted ones would
measure memory, not understanding.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

BLOCK_SECONDS = 10
HELD_OUT_EVERY = 5


def held_out(
    pts: NDArray[np.int64], time_base: Fraction, start: int, end: int
) -> NDArray[np.bool_]:
    """Say which frames of one film are held out: those of every fifth whole 10-second block.

    The film's time is cut into blocks without gaps, from its first frame on; a last block that the
    film does not fill is never held out. A film under 50 seconds has nothing held out.

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
    """Number the block that each frame lies in, from 0, exactly (in integers)."""
    ticks = time_base.denominator * BLOCK_SECONDS
    numbers: NDArray[np.int64] = (pts - start) * time_base.numerator // ticks
    return numbers
