"""Ends that are carried out, however often who waits for them is cancelled."""

import asyncio
from collections.abc import Coroutine


async def run_to_completion(end: Coroutine[object, object, None]) -> None:
    """Run `end` to its end; a cancellation meanwhile is raised only then, else what `end` raises.

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
