"""The thread pool for blocking calls to the store, so that the event loop never blocks."""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from enum import Enum, auto
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _End(Enum):
    """Says that an iterator has no further item."""

    END = auto()


class StorageThreads:
    """A thread pool for calls to the store only."""

    def __init__(self, count: int = 32) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="storage")

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` on a thread and return its result.

        Cancellation returns at once; a call that has started runs to its end.
        """
        return await asyncio.wrap_future(self._submit(lambda: call(*args, **kwargs)))

    async def iterate(self, iterator: Iterator[T]) -> AsyncGenerator[T, None]:
        """Yield what `iterator` yields, each item pulled on a thread.

        The iterator is closed on a thread when this generator ends, is closed or cancelled. Use
        `contextlib.aclosing` if the loop may end early.
        """
        pull: Future[T | _End] | None = None
        try:
            while True:
                pull = self._submit(lambda: next(iterator, _End.END))
                item = await asyncio.wrap_future(pull)
                if item is _End.END:
                    return
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if pull is not None and close is not None:
                # A cancelled pull may still be running, and a running iterator cannot be closed.
                pull.add_done_callback(lambda _: self._begin(close))

    def close(self) -> None:
        """Start no further call; running ones finish."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the pool is closed: the service is shutting down
            self._pool.submit(call)

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        # With the context, so that log lines name the call.
        return self._pool.submit(contextvars.copy_context().run, call)
