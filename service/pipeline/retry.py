"""Waiting for what may be away for a while: Triton, the store."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import TypeVar

from service.errors import UnavailableError
from service.storage.threads import StorageThreads

T = TypeVar("T")

RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Pauses before what found Triton or the store unavailable is tried again: a local Triton that died
is back, with its models, within these."""


async def persistently(call: Callable[[], Awaitable[T]]) -> T:
    """Await `call()`, again and again while it is unavailable, a bounded number of times."""
    for pause in RETRY_SECONDS:
        try:
            return await call()
        except UnavailableError:
            await asyncio.sleep(pause)
    return await call()


async def persistent_pieces(
    threads: StorageThreads, read: Callable[[int], Iterator[bytes]]
) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of `read(0)`; where that finds the store unavailable, go on where it was.

    `read` takes the position to begin at, in bytes. A bounded number of times without a piece.
    """
    position = 0
    pauses = iter(RETRY_SECONDS)
    while True:
        try:
            async with aclosing(threads.iterate(read(position))) as pieces:
                async for piece in pieces:
                    position += len(piece)
                    pauses = iter(RETRY_SECONDS)
                    yield piece
            return
        except UnavailableError:
            pause = next(pauses, None)
            if pause is None:
                raise
        await asyncio.sleep(pause)
