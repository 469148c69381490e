"""Waiting for what may be away for a while: Triton, the store."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.errors import UnavailableError

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
