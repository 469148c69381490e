"""Deletes films: at once for every reader, then object by object.

First a tombstone is written, `deleted/<film>.json`, which stays: the id is not reused, and whoever
finds it with objects of the film completes the deletion. Then film.json is removed; from then on
the film does not exist, since every reader on every replica checks it. The rest follows.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from service.library import layout
from service.library.films import Films, film_not_found
from service.library.records import Moment, RecordFormat, UnreadableRecordError
from service.library.verified_reads import DamagedError
from service.storage.objects import ObjectInfo, ObjectNotFoundError, ObjectStore

Listener: TypeAlias = Callable[[str, str], None]
"""Called with a film's id and uid, on any thread; must not block, must not raise."""


@dataclass(frozen=True, slots=True)
class DeletionNote:
    """A film that was deleted."""

    uid: str
    """The film's uid; empty if its facts could not be read."""
    request: str
    """A digest of the id of the request to delete it; empty if it had none."""
    time: Moment


_NOTE = RecordFormat(DeletionNote)


class Deletion:
    """Deletes films. Blocking and thread-safe."""

    def __init__(self, store: ObjectStore, films: Films) -> None:
        self._store = store
        self._films = films
        self._listeners: list[Listener] = []

    def on_deleted(self, listener: Listener) -> None:
        """Call `listener` right after this process deleted a film, to stop its jobs."""
        self._listeners.append(listener)

    def delete(self, film_id: str, request_id: str = "") -> None:
        """Delete a film with everything made of it; idempotent for the same request id.

        If it fails halfway, the same call or the sweep completes it. Raises NotFoundError
        (FILM_NOT_FOUND).
        """
        uid = self._uid(film_id)
        if uid is None and not self._was_by(film_id, request_id):
            raise film_not_found(film_id)
        if uid is not None:
            note = DeletionNote(uid, _hash(request_id), datetime.now(UTC))
            # An existing one is from a deletion interrupted before film.json was removed.
            self._store.create(layout.deleted(film_id), _NOTE.encode(note))
            self._store.delete([layout.film_facts(film_id)])
            for listener in self._listeners:
                listener(film_id, uid)
        self.remove_rest(film_id)

    def remove_rest(self, film_id: str) -> None:
        """Remove the remaining objects of a deleted film."""
        self._store.delete(info.key for info in self.rest(film_id))

    def rest(self, film_id: str) -> Iterator[ObjectInfo]:
        """Yield the remaining objects of a deleted film: film.json, then what refers to it."""
        facts = layout.film_facts(film_id)
        yield from self._exactly(facts)
        for digest in self._store.folders(layout.CATALOG):
            yield from self._exactly(layout.catalog(digest, film_id))
        yield from self._store.list(layout.pending(film_id, ""))
        for info in self._store.list(layout.film_folder(film_id)):
            if info.key != facts:
                yield info

    def _uid(self, film_id: str) -> str | None:
        try:
            film = self._films.find(film_id)
        except DamagedError:
            return ""
        return None if film is None else film.uid

    def _exactly(self, key: str) -> Iterator[ObjectInfo]:
        with suppress(ObjectNotFoundError):
            yield self._store.info(key)

    def _was_by(self, film_id: str, request_id: str) -> bool:
        if not request_id:
            return False
        try:
            note = _NOTE.decode(self._store.get(layout.deleted(film_id)))
        except (ObjectNotFoundError, UnreadableRecordError):
            return False
        return note.request == _hash(request_id)


def _hash(request_id: str) -> str:
    return hashlib.sha256(request_id.encode()).hexdigest() if request_id else ""
