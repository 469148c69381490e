"""The threads that blocking calls to the store run on, so that no coroutine waits for a disk."""

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
    """A pool for calls that wait for the store, and for nothing else."""

    def __init__(self, count: int = 32) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="storage")

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` on a thread and return what it returns.

        A cancelled coroutine leaves at once; a call that had begun goes on to its end.
        """
        return await asyncio.wrap_future(self._submit(lambda: call(*args, **kwargs)))

    async def iterate(self, iterator: Iterator[T]) -> AsyncGenerator[T, None]:
        """Yield what `iterator` yields, each item pulled on a thread.

        The iterator is closed on a thread once this generator ends, is closed or cancelled. Who may
        leave the loop early wraps it in `contextlib.aclosing`.
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
                # A pull that was cancelled may still run, and nobody can close what runs.
                pull.add_done_callback(lambda _: self._begin(close))

    def close(self) -> None:
        """Begin no further call; those that run go on to their end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the pool was closed, and the service ends
            self._pool.submit(call)

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        # The context goes along, so that log lines name the call they belong to.
        return self._pool.submit(contextvars.copy_context().run, call)
