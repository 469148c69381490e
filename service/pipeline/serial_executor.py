"""A thread of its own for one stage, whose every wait can be cancelled from the event loop."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class SerialExecutor:
    """Runs one stage's blocking calls in order, on one thread.

    A film container is opened, used and closed on one thread only; calls submitted here can rely
    on that, and on each other's order, even after the coroutine that submitted one was cancelled.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self.seconds = 0.0
        """How long calls ran altogether, waits inside them included."""

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` on the thread after all calls before it, and return what it returns."""

        def timed() -> T:
            began = time.monotonic()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds += time.monotonic() - began

        return await asyncio.get_running_loop().run_in_executor(self._pool, timed)

    async def end(self, last: Callable[[], None]) -> None:
        """Run `last` after all calls before it; then the thread ends."""
        try:
            await self.run(last)
        finally:
            self._pool.shutdown(wait=False)
