"""How many frames may be in Triton at once, and who waits: first come, first served."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import OverloadedError


class Admission:
    """A fair gate of `places`; a batch takes as many as it has frames. Used on one event loop."""

    def __init__(self, places: int, *, max_wait_seconds: float) -> None:
        self._free = places
        self._max_wait_seconds = max_wait_seconds
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.in_flight = 0
        """Frames that hold a place."""

    @property
    def waiting(self) -> int:
        """Frames that wait for a place."""
        return sum(size for size, _ in self._waiting)

    @asynccontextmanager
    async def places(self, size: int, *, patient: bool) -> AsyncIterator[None]:
        """Hold `size` places; raises OverloadedError when an impatient caller waits too long."""
        await self._take(size, None if patient else self._max_wait_seconds)
        try:
            yield
        finally:
            self._give_back(size)

    async def _take(self, size: int, max_wait: float | None) -> None:
        if not self._waiting and self._free >= size:
            self._grant(size)
            return
        ticket = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(ticket)
        try:
            async with asyncio.timeout(max_wait):
                await ticket[1]
        except BaseException as error:
            if ticket[1].done() and not ticket[1].cancelled():
                # Granted in the same moment as it was given up.
                self._give_back(size)
            else:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                # The next in line may be smaller and fit.
                self._admit()
            if isinstance(error, TimeoutError):
                raise OverloadedError(
                    "the service is at work on as many frames as it can hold; try again",
                    retry_after=self._max_wait_seconds,
                ) from None
            raise

    def _grant(self, size: int) -> None:
        self._free -= size
        self.in_flight += size

    def _give_back(self, size: int) -> None:
        self._free += size
        self.in_flight -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._free >= self._waiting[0][0]:
            size, ticket = self._waiting.popleft()
            if not ticket.done():
                self._grant(size)
                ticket.set_result(None)
