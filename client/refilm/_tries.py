"""When an interrupted transfer is resumed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from refilm._errors import RefilmError

_MOST_IN_VAIN = 8
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0


class Tries:
    """Counts the attempts since the transfer last advanced: with gRPC's own, about a minute.

    Args:
        timeout: Seconds that all attempts together may take.
        clock: Where the time comes from.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + timeout
        self._in_vain = 0

    def left(self) -> float:
        """Returns the seconds left for the next attempt."""
        return max(0.0, self._end - self._clock())

    def went_on(self) -> None:
        """Records that the transfer advanced."""
        self._in_vain = 0

    def pause_after(self, error: RefilmError) -> float:
        """Returns the seconds to wait before the next attempt; raises `error` if there is none."""
        pause = error.retry_after
        if pause is None:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._in_vain)
            # Callers that were interrupted together should not retry together.
            pause *= random.uniform(0.75, 1.25)  # noqa: S311  # no secret
        self._in_vain += 1
        if self._in_vain > _MOST_IN_VAIN or pause >= self.left():
            raise error
        return pause
