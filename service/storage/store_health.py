"""Periodic health check of the store."""

import asyncio
import time
from collections.abc import Callable

import structlog

from service import metrics
from service.errors import ServiceError
from service.storage.objects import ObjectStore
from service.storage.threads import StorageThreads

log = structlog.get_logger(__name__)

CHECK_SECONDS = 2.0

_HANGS_SECONDS = 30.0
"""Timeout of a check: a missing disk can block a thread forever."""


class StoreHealth:
    """Prepares the store as soon as it answers, and reports when it fails and recovers."""

    def __init__(self, store: ObjectStore, on_change: Callable[[bool], None]) -> None:
        self._store = store
        # A separate thread: busy workers must not count as a failure.
        self._threads = StorageThreads(1)
        self._on_change = on_change
        self._prepared = False
        self._up: bool | None = None

    async def look(self) -> None:
        """Check the store once; call `on_change` if its health changed."""
        call = self._store.check if self._prepared else self._store.prepare
        began = time.monotonic()
        try:
            async with asyncio.timeout(_HANGS_SECONDS):
                await self._threads.run(call)
        except (ServiceError, TimeoutError) as error:
            self._set(False, reason=getattr(error, "reason", "STORE_HANGS"))
        else:
            self._prepared = True
            self._set(True, seconds=round(time.monotonic() - began, 3))

    async def watch(self, interval: float = CHECK_SECONDS) -> None:
        """Check periodically until cancelled."""
        try:
            while True:
                await asyncio.sleep(interval)
                await self.look()
        finally:
            self._threads.close()

    def _set(self, up: bool, **facts: object) -> None:
        metrics.STORE_UP.set(up)
        if up == self._up:
            return
        self._up = up
        if up:
            log.info("the library's store answers", **facts)
        else:
            log.warning("the library's store does not answer", **facts)
        self._on_change(up)
