"""Store calls that must finish before the work that made them ends."""

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from service.retry import with_retries
from service.storage.threads import StorageThreads

P = ParamSpec("P")
T = TypeVar("T")


class Writes:
    """The store calls of one job or caller, so that it can wait for all of them."""

    def __init__(self, threads: StorageThreads) -> None:
        self._threads = threads
        self._running: set[asyncio.Future[Any]] = set()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` on a thread; after a cancellation, `ended` still waits for it."""
        running = asyncio.ensure_future(self._threads.run(call, *args, **kwargs))
        self._running.add(running)
        running.add_done_callback(self._done)
        return await asyncio.shield(running)

    async def with_retries(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call`, retrying a bounded number of times while the store is unavailable."""
        return await with_retries(lambda: self.run(call, *args, **kwargs))

    async def ended(self) -> None:
        """Wait until no call is running."""
        while self._running:
            await asyncio.wait(self._running)

    def _done(self, running: "asyncio.Future[T]") -> None:
        self._running.discard(running)
        if not running.cancelled():
            running.exception()  # Mark as retrieved, even if nothing awaits it any more.
