"""Task helpers: cleanup that cancellation does not interrupt, and background tasks."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

import structlog

log = structlog.get_logger(__name__)


async def run_to_completion(end: Coroutine[object, object, None]) -> None:
    """Run `end` to completion; a cancellation meanwhile is raised afterwards.

    `asyncio.shield` alone would let a cancelled caller go on beside what it has yet to take back.
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
            ending.exception()  # Seen; the cancellation counts.
        raise cancelled
    ending.result()


@asynccontextmanager
async def background(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `work` until the end of the block. It ends by itself only through a defect of ours."""
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
        # Half a service is worse than none: exit, and let the supervisor restart it.
        signal.raise_signal(signal.SIGTERM)
