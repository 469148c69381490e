"""The library's parts for one process, and the sweep that keeps it tidy."""

import asyncio
import threading
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from service import metrics
from service.errors import ServiceError
from service.library.deletion import Deletion
from service.library.films import Films
from service.library.latents import Latents
from service.library.leases import Leases
from service.library.renditions import Renditions
from service.library.segment_records import SegmentRecords
from service.library.sweep import Sweep
from service.library.uploads import Uploads
from service.renditions import LibraryParts
from service.rpc.download_film import Downloads
from service.rpc.library_service import LibraryService, Reconstructions
from service.rpc.list_films import FilmLists
from service.rpc.upload_film import UploadCalls
from service.settings import Settings
from service.storage.objects import ObjectStore
from service.storage.threads import StorageThreads

log = structlog.get_logger(__name__)

_SWEEP_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 30.0
"""After how long a store that did not answer is swept again."""


@dataclass(frozen=True, slots=True)
class Library:
    """What is kept, by kind. Blocks, so it is used through `threads`."""

    store: ObjectStore
    threads: StorageThreads
    films: Films
    renditions: Renditions
    latents: Latents
    uploads: Uploads
    deletion: Deletion

    @classmethod
    def of(cls, store: ObjectStore, threads: StorageThreads, settings: Settings) -> "Library":
        """Return the library that a store keeps."""
        films = Films(store)
        return cls(
            store,
            threads,
            films,
            Renditions(store),
            Latents(store),
            Uploads(store, films, film_bytes=settings.spool_film_bytes),
            Deletion(store, films),
        )

    def parts(self, settings: Settings) -> LibraryParts:
        """Return what works on films need, for one process to work on."""
        return LibraryParts(
            self.store,
            self.films,
            self.latents,
            self.renditions,
            SegmentRecords(self.store),
            Leases(self.store, owner=uuid.uuid4().hex, seconds=settings.lease_seconds),
            self.threads,
        )

    def service(
        self, settings: Settings, reconstructions: Reconstructions | None = None
    ) -> LibraryService:
        """Return LibraryService over this library."""
        return LibraryService(
            UploadCalls(
                self.uploads,
                self.threads,
                max_running=settings.max_uploads,
                idle_seconds=settings.idle_seconds,
            ),
            FilmLists(self.films, self.renditions, self.latents, self.threads),
            Downloads(self.store, self.films, self.renditions, self.latents, self.threads),
            self.deletion,
            self.threads,
            reconstructions=reconstructions,
        )

    async def keep_swept(self, older_than: timedelta) -> None:
        """Sweep now and every hour, for as long as the service runs."""
        stopped = threading.Event()
        try:
            while True:
                pause = _SWEEP_SECONDS
                try:
                    await self.threads.run(self._sweep, older_than, stopped)
                except ServiceError as error:
                    log.warning("the library could not be swept", reason=error.reason)
                    pause = _RETRY_SECONDS
                except Exception:
                    # Something that is not ours in the bucket: no reason to end the service.
                    log.exception("the sweep of the library failed")
                await asyncio.sleep(pause)
        finally:
            # The process would wait for its thread.
            stopped.set()

    def _sweep(self, older_than: timedelta, stopped: threading.Event) -> None:
        for found in Sweep(self.store, older_than=older_than, stopped=stopped).run():
            metrics.LEFTOVERS.labels(found.kind).inc()
            log.info(
                "removed what interrupted work left",
                kind=found.kind,
                name=found.name,
                objects=found.objects,
                bytes=found.size,
            )
