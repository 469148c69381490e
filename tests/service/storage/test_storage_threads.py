"""Blocking calls on threads of their own, as coroutines see them."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from service.storage.threads import StorageThreads

CALL = contextvars.ContextVar("CALL", default="none")


@pytest.fixture
def threads() -> Iterator[StorageThreads]:
    pool = StorageThreads(2)
    yield pool
    pool.close()


class Items:
    """An iterator that tells when it is closed, and from where."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.gate = threading.Event()
        self.gate.set()
        self.pulling = threading.Event()
        self.closed = threading.Event()
        self.busy_when_closed = False
        self._busy = False

    def __iter__(self) -> "Items":
        return self

    def __next__(self) -> int:
        self._busy = True
        self.pulling.set()
        self.gate.wait(30)
        self._busy = False
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.left

    def close(self) -> None:
        self.busy_when_closed = self._busy
        self.closed.set()


async def closed(items: Items) -> bool:
    return await asyncio.to_thread(items.closed.wait, 30)


async def test_calls_run_elsewhere_with_the_context_of_the_caller(threads: StorageThreads) -> None:
    CALL.set("mine")
    name, call = await threads.run(lambda: (threading.current_thread().name, CALL.get()))
    assert name.startswith("storage")
    assert call == "mine"


async def test_an_error_comes_back(threads: StorageThreads) -> None:
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)


async def test_all_items_come_and_the_iterator_is_closed(threads: StorageThreads) -> None:
    items = Items(3)
    assert [item async for item in threads.iterate(items)] == [2, 1, 0]
    assert await closed(items)


async def test_who_leaves_early_has_the_iterator_closed(threads: StorageThreads) -> None:
    items = Items(3)
    async with aclosing(threads.iterate(items)) as pulled:
        assert await anext(pulled) == 2
    assert await closed(items)
    assert items.left == 2


async def test_a_cancelled_caller_leaves_at_once_and_a_pull_ends_before_the_close(
    threads: StorageThreads,
) -> None:
    items = Items(3)
    items.gate.clear()
    task = asyncio.ensure_future(anext(threads.iterate(items)))
    await asyncio.to_thread(items.pulling.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not items.closed.is_set()
    items.gate.set()
    assert await closed(items)
    assert not items.busy_when_closed
