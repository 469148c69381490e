"""The service's own retries with backoff.

A failed request to the store is retried within seconds (`request_backoff`). Operations that still
find Triton or the store unavailable then wait longer (`with_retries`). Errors tell callers when to
retry (`ServiceError.retry_after`).
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import TypeVar

from service.errors import UnavailableError

T = TypeVar("T")

REQUEST_ATTEMPTS = 5
REQUEST_SECONDS = 5.0
"""No attempt starts later than this after the first, so a request that hung is not retried."""
_FIRST_PAUSE_SECONDS = 0.2

RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Seconds before each retry of an operation that found Triton or the store unavailable: enough for
a local Triton to restart and load its models."""


def request_backoff() -> Iterator[float]:
    """Return the seconds before each retry of a request sent now: exponential, with jitter."""
    last = time.monotonic() + REQUEST_SECONDS

    def pauses() -> Iterator[float]:
        for tried in range(1, REQUEST_ATTEMPTS):
            pause = random.uniform(0, _FIRST_PAUSE_SECONDS * 2**tried)  # noqa: S311 - no secret
            if time.monotonic() + pause >= last:
                return
            yield pause

    return pauses()


async def with_retries(call: Callable[[], Awaitable[T]]) -> T:
    """Await `call()`, retrying a bounded number of times while it raises UnavailableError."""
    for pause in RETRY_DELAYS:
        try:
            return await call()
        except UnavailableError:
            await asyncio.sleep(pause)
    return await call()


async def read_with_retries(
    pull: Callable[[Iterator[bytes]], AsyncGenerator[bytes, None]],
    read: Callable[[int], Iterator[bytes]],
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of `read(0)`, resuming at the position while the store is unavailable.

    The number of retries without progress is bounded.

    Args:
        pull: iterates without blocking: `StorageThreads.iterate`.
        read: takes the position to start at, in bytes.
    """
    position = 0
    pauses = iter(RETRY_DELAYS)
    while True:
        try:
            async with aclosing(pull(read(position))) as chunks:
                async for chunk in chunks:
                    position += len(chunk)
                    pauses = iter(RETRY_DELAYS)
                    yield chunk
            return
        except UnavailableError:
            pause = next(pauses, None)
            if pause is None:
                raise
        await asyncio.sleep(pause)
