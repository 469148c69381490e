"""The result of the first pass over a clip to match."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from film.letterbox import Bars

MOST_SAMPLES = 256
"""Of one clip; a long one's are further apart. Never fewer than half as many."""


@dataclass(frozen=True, slots=True)
class ClipSurvey:
    """What the first reading found."""

    time_base: Fraction
    origin_pts: int
    """Of the first picture."""
    duration: Fraction
    """Seconds from the first picture to the end of the last."""
    chosen: tuple[int, ...]
    """Presentation times of the pictures to take, increasing."""
    bars: Bars

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Of the pictures to take, from the first picture, [N]."""
        return np.array([float((pts - self.origin_pts) * self.time_base) for pts in self.chosen])
