"""Finds and removes leftovers of interrupted operations in the store.

    deletion      the rest of a deleted film
    upload        an upload that nobody resumed
    film          a folder of a film that was never committed
    attempt       segments and latents of a job that nobody resumed
    write         unfinished writes

Doubtful cases stay: a folder that was written to recently, and everything that an unreadable
manifest may refer to.
"""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

import structlog

from service import metrics
from service.errors import ServiceError
from service.library import layout
from service.library.deletion import Deletion
from service.library.films import FilmExistsError, Films
from service.library.latents import Latents
from service.library.renditions import Renditions
from service.library.upload_ends import UploadEnds
from service.library.upload_records import UploadEnd, UploadRecord
from service.library.verified_reads import DamagedError
from service.storage.objects import (
    ObjectInfo,
    ObjectNotFoundError,
    ObjectStore,
    delete_below,
    is_there,
)
from service.storage.threads import StorageThreads

log = structlog.get_logger(__name__)

_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_SWEEP_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 30.0
"""Retry delay for a store that did not answer."""

Kind: TypeAlias = Literal["deletion", "upload", "film", "attempt", "write"]


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that can be removed."""

    kind: Kind
    name: str
    """Identifies it for the operator, without the keys of its objects."""
    objects: int
    size: int
    """Bytes; 0 if unknown."""


@dataclass(slots=True)
class _Folder:
    """Facts about the objects in a folder."""

    objects: int = 0
    size: int = 0
    newest: datetime = _LONG_AGO

    def add(self, info: ObjectInfo) -> None:
        self.objects += 1
        self.size += info.size
        self.newest = max(self.newest, info.modified)


class Sweep:
    """Sweeps the library. Blocks; any number may run concurrently, on any replicas."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        older_than: timedelta,
        dry_run: bool = False,
        stopped: threading.Event | None = None,
    ) -> None:
        """Prepare a sweep.

        Args:
            store: the store to sweep.
            older_than: minimum age of leftovers, since their last write.
            dry_run: whether to remove nothing.
            stopped: stops the sweep early, once it is set.
        """
        self._store = store
        self._films = Films(store)
        self._deletion = Deletion(store, self._films)
        self._ends = UploadEnds(store, self._films)
        self._age = older_than
        self._limit = datetime.now(UTC) - older_than
        self._dry_run = dry_run
        self._stopped = stopped or threading.Event()

    def run(self) -> Iterator[Leftover]:
        """Remove all leftovers, and yield them; in a dry run, only yield them."""
        yield from self.deletions()
        yield from self._uploads()
        yield from self._film_folders()
        yield from self._abandoned()

    def deletions(self) -> Iterator[Leftover]:
        """Complete interrupted deletions of any age."""
        deleted = {
            info.key.removeprefix(layout.DELETED).removesuffix(".json")
            for info in self._store.list(layout.DELETED)
        }
        if not deleted:
            return
        for film in self._until_stopped(sorted(deleted & self._named())):
            found = _Folder()
            for info in self._deletion.rest(film):
                found.add(info)
            yield Leftover("deletion", f"films/{film}", found.objects, found.size)
            if not self._dry_run:
                self._deletion.remove_rest(film)

    def _named(self) -> set[str]:
        """Return the ids of all films with any objects."""
        films = set(self._store.folders(layout.FILMS))
        for digest in self._store.folders(layout.CATALOG):
            prefix = layout.catalog_folder(digest)
            films.update(info.key.removeprefix(prefix) for info in self._store.list(prefix))
        for info in self._store.list(layout.PENDING):
            films.add(info.key.removeprefix(layout.PENDING).split("~")[0])
        return films

    def _uploads(self) -> Iterator[Leftover]:
        for upload in self._until_stopped(self._store.folders(layout.UPLOADS)):
            prefix = layout.upload_folder(upload)
            found = self._folder(prefix)
            if found.newest >= self._limit:
                continue
            record = UploadRecord.find(self._store, upload)
            yield Leftover("upload", f"uploads/{upload}", found.objects, found.size)
            if self._dry_run:
                continue
            if record is not None and not self._ends.drop(record):
                self._finish(record)
            delete_below(self._store, prefix)

    def _finish(self, record: UploadRecord) -> None:
        """Complete an upload that was interrupted in its last step."""
        end = UploadEnd.find(self._store, record)
        if end is None or end.film is None or self._films.was_deleted(record.film_id):
            return
        try:
            self._ends.finish(record, end)
        except (FilmExistsError, ObjectNotFoundError):
            log.warning("an upload that was complete has no film", film=record.film_id)

    def _film_folders(self) -> Iterator[Leftover]:
        for film in self._until_stopped(self._store.folders(layout.FILMS)):
            if is_there(self._store, layout.film_facts(film)):
                yield from self._attempts(film)
                continue
            prefix = layout.film_folder(film)
            found = self._folder(prefix)
            is_left = found.objects and found.newest < self._limit and not self._is_awaited(film)
            # `deletions` finds the deleted ones.
            if is_left and not self._films.was_deleted(film):
                yield Leftover("film", f"films/{film}", found.objects, found.size)
                if not self._dry_run:
                    delete_below(self._store, prefix)

    def _is_awaited(self, film: str) -> bool:
        """Return whether an upload in progress has the film's id."""
        claim = self._ends.claimed_by(film)
        if claim is None:
            return False
        record = UploadRecord.find(self._store, claim.upload)
        return record is not None and record.uid == claim.uid

    def _attempts(self, film: str) -> Iterator[Leftover]:
        """Find attempts at renditions and latents that no manifest names."""
        folder = layout.film_folder(film)
        for kind in ("renditions", "latents"):
            for made in self._store.folders(f"{folder}{kind}/"):
                yield from self._attempts_at(film, f"{folder}{kind}/{made}/", kind, made)

    def _attempts_at(self, film: str, folder: str, kind: str, made: str) -> Iterator[Leftover]:
        attempts = {name: self._folder(f"{folder}{name}/") for name in self._store.folders(folder)}
        # A heartbeat of any attempt means that all are still needed: a job resumes from the
        # segments of others.
        if not attempts or max(found.newest for found in attempts.values()) >= self._limit:
            return
        try:
            named = self._named_attempts(film, kind, made)
        except DamagedError as error:
            log.warning("left as it is", what=f"films/{film}/{kind}", why=error.message)
            return
        for name, found in attempts.items():
            if name in named:
                continue
            if name != "lease":
                yield Leftover("attempt", f"films/{film}/{kind}/{made}", found.objects, found.size)
            if not self._dry_run:
                delete_below(self._store, f"{folder}{name}/")

    def _named_attempts(self, film: str, kind: str, made: str) -> frozenset[str]:
        # Not cached: what was just committed must be included.
        if kind == "renditions":
            rendition = Renditions(self._store).find(film, made)
            return frozenset() if rendition is None else rendition.attempts
        latents = Latents(self._store).find(film, f"sha256:{made}")
        return frozenset() if latents is None else latents.attempts

    def _abandoned(self) -> Iterator[Leftover]:
        for key in self._until_stopped(self._store.abandoned(self._age)):
            yield Leftover("write", key, 1, 0)
            if not self._dry_run:
                self._store.delete_abandoned([key])

    def _until_stopped(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            if self._stopped.is_set():
                return
            yield name

    def _folder(self, prefix: str) -> _Folder:
        found = _Folder()
        for info in self._store.list(prefix):
            found.add(info)
        return found


async def keep_swept(store: ObjectStore, threads: StorageThreads, older_than: timedelta) -> None:
    """Sweep now and then every hour, as long as the service runs."""
    stopped = threading.Event()
    try:
        while True:
            pause = _SWEEP_SECONDS
            try:
                await threads.run(_sweep, store, older_than, stopped)
            except ServiceError as error:
                log.warning("the library could not be swept", reason=error.reason)
                pause = _RETRY_SECONDS
            except Exception:
                # For example foreign objects in the bucket: no reason to stop the service.
                log.exception("the sweep of the library failed")
            await asyncio.sleep(pause)
    finally:
        # The process would wait for its thread.
        stopped.set()


def _sweep(store: ObjectStore, older_than: timedelta, stopped: threading.Event) -> None:
    for found in Sweep(store, older_than=older_than, stopped=stopped).run():
        metrics.LEFTOVERS.labels(found.kind).inc()
        log.info(
            "removed leftovers of interrupted operations",
            kind=found.kind,
            name=found.name,
            objects=found.objects,
            bytes=found.size,
        )
