"""Processes a stream in batches, in order and with bounded memory.

Items prepared while a batch is in flight form the next one: a single item is sent at once, a fast
stream fills its batches. An error ends the stream after the results of all items before it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine
from typing import Generic, TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

MAX_BATCH = 32
"""Items in one request to Triton; larger batches gain nothing and delay the first result."""
MAX_BATCHES = 3
"""Batches in flight: one being sent, one in the model, one being received."""
MAX_PREPARING = 4
"""Items in preparation at once: unprepared ones may be as large as a message."""
MAX_PREPARED = 2 * MAX_BATCH


class Pipeline(Generic[Item, Prepared, Answer]):
    """One stream's pipeline; iterate over `answers` once."""

    def __init__(
        self,
        prepare: Callable[[int, Item], Awaitable[Prepared]],
        answer: Callable[[list[Prepared]], Coroutine[object, object, list[Answer]]],
    ) -> None:
        self._prepare = prepare
        self._answer = answer
        self._preparing = asyncio.Semaphore(MAX_PREPARING)
        self._places = asyncio.Semaphore(MAX_BATCHES)
        self._prepared: deque[asyncio.Task[Prepared]] = deque()
        self._prepared_changed = asyncio.Condition()
        self._read_all = False
        self._read_fault: Exception | None = None
        # In order; None marks the end, an exception the end after an error. Bounded by the places.
        self._batches: asyncio.Queue[asyncio.Task[list[Answer]] | Exception | None] = (
            asyncio.Queue()
        )
        self._tasks: set[asyncio.Task[object]] = set()

    async def answers(self, items: AsyncIterable[Item]) -> AsyncGenerator[Answer, None]:
        """Yield one result per item, in order; raises the first error."""
        self._start(self._read(items))
        self._start(self._batch())
        try:
            while (batch := await self._batches.get()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                for answer in await batch:
                    yield answer
                self._places.release()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, items: AsyncIterable[Item]) -> None:
        index = 0
        try:
            async for item in items:
                await self._preparing.acquire()
                task = self._start(self._prepare_one(index, item))
                index += 1
                async with self._prepared_changed:
                    await self._prepared_changed.wait_for(
                        lambda: len(self._prepared) < MAX_PREPARED
                    )
                    self._prepared.append(task)
                    self._prepared_changed.notify_all()
        except Exception as error:
            # Any error ends the stream; `answers` raises it after the results before it.
            self._read_fault = error
        async with self._prepared_changed:
            self._read_all = True
            self._prepared_changed.notify_all()

    async def _prepare_one(self, index: int, item: Item) -> Prepared:
        try:
            return await self._prepare(index, item)
        finally:
            self._preparing.release()

    async def _batch(self) -> None:
        fault: Exception | None = None
        while fault is None:
            await self._places.acquire()
            tasks = await self._next_tasks()
            if not tasks:
                fault = self._read_fault
                break
            batch: list[Prepared] = []
            try:
                for task in tasks:
                    batch.append(await task)
            except Exception as error:
                fault = error
            if batch:
                self._batches.put_nowait(self._start(self._answer(batch)))
        self._batches.put_nowait(fault)

    async def _next_tasks(self) -> list[asyncio.Task[Prepared]]:
        """Wait for the next item and take all prepared ones with it; empty at the end."""
        async with self._prepared_changed:
            await self._prepared_changed.wait_for(lambda: self._prepared or self._read_all)
            tasks: list[asyncio.Task[Prepared]] = []
            while self._prepared and len(tasks) < MAX_BATCH:
                if tasks and not self._prepared[0].done():
                    break
                tasks.append(self._prepared.popleft())
            self._prepared_changed.notify_all()
            return tasks

    def _start(self, work: Coroutine[object, object, Result]) -> asyncio.Task[Result]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
