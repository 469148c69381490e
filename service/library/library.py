"""The library's parts, on one store."""

import uuid
from dataclasses import dataclass

from service.library.deletion import Deletion
from service.library.films import Films
from service.library.job_records import Jobs
from service.library.latents import Latents
from service.library.leases import Leases
from service.library.renditions import Renditions
from service.library.segment_records import SegmentRecords
from service.library.upload_probe import Probe
from service.library.uploads import Uploads
from service.storage.objects import ObjectStore
from service.storage.threads import StorageThreads


@dataclass(frozen=True, slots=True)
class Library:
    """The library in one store. Blocks, so call it through `threads`."""

    store: ObjectStore
    threads: StorageThreads
    films: Films
    renditions: Renditions
    latents: Latents
    records: SegmentRecords
    leases: Leases
    jobs: Jobs
    uploads: Uploads
    deletion: Deletion

    @classmethod
    def of(
        cls,
        store: ObjectStore,
        threads: StorageThreads,
        probe: Probe,
        *,
        film_bytes: int,
        lease_seconds: float,
    ) -> "Library":
        """Return the library in a store.

        Args:
            store: the object store; may be unavailable.
            threads: for calls to the store.
            probe: checks whether bytes are a film.
            film_bytes: the size limit for a film.
            lease_seconds: duration of leases without a heartbeat.
        """
        films = Films(store)
        return cls(
            store,
            threads,
            films,
            Renditions(store),
            Latents(store),
            SegmentRecords(store),
            Leases(store, owner=uuid.uuid4().hex, seconds=lease_seconds),
            Jobs(store),
            Uploads(store, films, film_bytes=film_bytes, probe=probe),
            Deletion(store, films),
        )
