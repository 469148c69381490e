"""Task helpers: cleanup that cancellation does not interrupt, and background tasks."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

import structlog

log = structlog.get_logger(__name__)


async def run_to_completion(end: Coroutine[object, object, None]) -> None:
    """Run `end` to completion; a cancellation meanwhile is raised afterwards.

    `asyncio.shield` alone would let a cancelled caller continue while its cleanup still runs.
    """
    ending = asyncio.ensure_future(end)
    cancelled: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.wait({ending})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not ending.cancelled():
            ending.exception()  # Mark as retrieved; the cancellation is raised instead.
        raise cancelled
    ending.result()


@asynccontextmanager
async def background(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `work` until the end of the block. Only a bug of ours makes it end earlier."""
    task = asyncio.create_task(work)
    task.add_done_callback(_ended_early)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _ended_early(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        log.critical("a background task ended", exc_info=task.exception())
        # A partial service is worse than none: exit, and let the supervisor restart it.
        signal.raise_signal(signal.SIGTERM)
