"""When a transfer that was cut is gone on with."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from refilm._errors import RefilmError

_MOST_IN_VAIN = 8
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0


class Tries:
    """Counts the tries since the transfer last went on: with gRPC's own, about a minute of them.

    Args:
        timeout: Seconds that all tries together may take.
        clock: Where the time comes from.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + timeout
        self._in_vain = 0

    def left(self) -> float:
        """Returns the seconds that are left for the next try."""
        return max(0.0, self._end - self._clock())

    def went_on(self) -> None:
        """Takes in that the transfer went on."""
        self._in_vain = 0

    def pause_after(self, error: RefilmError) -> float:
        """Returns the seconds to wait before the next try; raises `error` where there is none."""
        pause = error.retry_after
        if pause is None:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._in_vain)
            # Callers that were cut together shall not come back together.
            pause *= random.uniform(0.75, 1.25)  # noqa: S311  # no secret
        self._in_vain += 1
        if self._in_vain > _MOST_IN_VAIN or pause >= self.left():
            raise error
        return pause
