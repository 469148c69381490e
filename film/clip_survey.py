"""The result of the first pass over a clip to match."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from film.letterbox import Bars

MOST_SAMPLES = 256
"""Maximum pictures of one clip; a long clip's are further apart. Never fewer than half as many."""


@dataclass(frozen=True, slots=True)
class ClipSurvey:
    """The result of the first pass."""

    time_base: Fraction
    origin_pts: int
    """Time of the first picture."""
    duration: Fraction
    """Seconds from the first picture to the end of the last."""
    chosen: tuple[int, ...]
    """Presentation times of the pictures to take, increasing."""
    bars: Bars

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Times of the pictures to take, in seconds from the first picture, [N]."""
        return np.array([float((pts - self.origin_pts) * self.time_base) for pts in self.chosen])
