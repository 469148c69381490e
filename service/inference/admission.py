"""Admission control: limits the frames in Triton at once, first come, first served."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import OverloadedError


class Admission:
    """A fair semaphore; a batch takes as many places as it has frames. For one event loop."""

    def __init__(self, places: int, *, max_wait_seconds: float) -> None:
        self._free = places
        self._max_wait_seconds = max_wait_seconds
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.in_flight = 0
        """Frames holding places."""

    @property
    def waiting(self) -> int:
        """Frames waiting for places."""
        return sum(size for size, _ in self._waiting)

    @asynccontextmanager
    async def places(self, size: int, *, patient: bool) -> AsyncIterator[None]:
        """Hold `size` places; raises OverloadedError after `max_wait_seconds` unless `patient`."""
        await self._acquire(size, None if patient else self._max_wait_seconds)
        try:
            yield
        finally:
            self._release(size)

    async def _acquire(self, size: int, max_wait: float | None) -> None:
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
                # Granted at the moment of the cancellation.
                self._release(size)
            else:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                # The next in line may be smaller and fit.
                self._admit()
            if isinstance(error, TimeoutError):
                raise OverloadedError(
                    "the service is processing as many frames as it can hold; try again",
                    retry_after=self._max_wait_seconds,
                ) from None
            raise

    def _grant(self, size: int) -> None:
        self._free -= size
        self.in_flight += size

    def _release(self, size: int) -> None:
        self._free += size
        self.in_flight -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._free >= self._waiting[0][0]:
            size, ticket = self._waiting.popleft()
            if not ticket.done():
                self._grant(size)
                ticket.set_result(None)
