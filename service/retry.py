"""What the service tries again by itself, and when.

A single request to a store that fails is sent again within seconds (`request_pauses`). Work that
finds Triton or the store unavailable all the same waits for longer (`persistently`). When callers
may try again is said by the errors that they get (`ServiceError.retry_after`).
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import TypeVar

from service.errors import UnavailableError

T = TypeVar("T")

REQUEST_TRIES = 5
REQUEST_SECONDS = 5.0
"""No try of a request begins later than this after the first: one that hung is not repeated."""
_FIRST_PAUSE_SECONDS = 0.2

RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Pauses before what found Triton or the store unavailable is tried again: a local Triton that died
is back, with its models, within these."""


def request_pauses() -> Iterator[float]:
    """Return, from when a request is sent, how many seconds to wait before each further try.

    Anywhere up to a growing limit: callers that failed together do not come back together.
    """
    last = time.monotonic() + REQUEST_SECONDS

    def pauses() -> Iterator[float]:
        for tried in range(1, REQUEST_TRIES):
            pause = random.uniform(0, _FIRST_PAUSE_SECONDS * 2**tried)  # noqa: S311 - no secret
            if time.monotonic() + pause >= last:
                return
            yield pause

    return pauses()


async def persistently(call: Callable[[], Awaitable[T]]) -> T:
    """Await `call()`, again and again while it is unavailable, a bounded number of times."""
    for pause in RETRY_SECONDS:
        try:
            return await call()
        except UnavailableError:
            await asyncio.sleep(pause)
    return await call()


async def persistent_pieces(
    pull: Callable[[Iterator[bytes]], AsyncGenerator[bytes, None]],
    read: Callable[[int], Iterator[bytes]],
) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of `read(0)`; where that finds the store unavailable, go on where it was.

    A bounded number of times without a piece.

    Args:
        pull: yields what an iterator does, without blocking: `StorageThreads.iterate`.
        read: takes the position to begin at, in bytes.
    """
    position = 0
    pauses = iter(RETRY_SECONDS)
    while True:
        try:
            async with aclosing(pull(read(position))) as pieces:
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
