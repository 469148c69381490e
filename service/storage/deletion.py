"""Deletes films for good: at once for every reader, then object by object.

First a note is left, `deleted/<film>.json`, that stays: the id is not used again, and whoever finds
the note and objects of the film ends what was begun. Then film.json goes, and from there on the film
does not exist, for every reader on every replica asks for it. The rest follows.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TypeAlias

from service.storage import layout
from service.storage.films import Films, film_not_found
from service.storage.objects import ObjectNotFoundError, ObjectStore

Listener: TypeAlias = Callable[[str, str], None]
"""Called with a film's id and uid, on any thread; must not block, must not raise."""


class Deletion:
    """Deletes films. Blocks; safe to call from any thread."""

    def __init__(self, store: ObjectStore, films: Films) -> None:
        self._store = store
        self._films = films
        self._listeners: list[Listener] = []

    def on_deleted(self, listener: Listener) -> None:
        """Call `listener` right after a film ceased to exist, by this process, to stop its work."""
        self._listeners.append(listener)

    def delete(self, film_id: str, request_id: str = "") -> None:
        """Delete a film with everything made of it; the same request again succeeds again.

        Whatever it raises, the film is either wholly there or will be gone: the same call, or the
        sweep, goes on. Raises NotFoundError (FILM_NOT_FOUND).
        """
        film = self._films.find(film_id)
        if film is None and not self._was_by(film_id, request_id):
            raise film_not_found(film_id)
        if film is not None:
            note = {
                "version": 1,
                "uid": film.uid,
                "request": _hash(request_id),
                "time": datetime.now(UTC).isoformat(),
            }
            # One that is there is of a deletion that was cut before the film ceased to exist.
            self._store.create(layout.deleted(film_id), json.dumps(note).encode())
            self._store.delete([layout.film_facts(film_id)])
            for listener in self._listeners:
                listener(film_id, film.uid)
        self.remove_rest(film_id)

    def remove_rest(self, film_id: str) -> None:
        """Remove everything of a film that was deleted."""
        self._store.delete(self.rest(film_id))

    def rest(self, film_id: str) -> Iterator[str]:
        """Yield the keys of what is left of a film; its own objects last, film.json first."""
        folder, facts = layout.film_folder(film_id), layout.film_facts(film_id)
        for info in self._store.list(facts):
            yield info.key
        for digest in self._store.folders(layout.CATALOG):
            yield from self._keys(layout.catalog(digest, film_id), exactly=True)
        yield from self._keys(layout.pending(film_id, ""))
        yield from (key for key in self._keys(folder) if key != facts)

    def _keys(self, prefix: str, *, exactly: bool = False) -> Iterator[str]:
        for info in self._store.list(prefix):
            if not exactly or info.key == prefix:
                yield info.key

    def _was_by(self, film_id: str, request_id: str) -> bool:
        if not request_id:
            return False
        try:
            note = json.loads(self._store.get(layout.deleted(film_id)))
        except ObjectNotFoundError:
            return False
        return bool(note["request"] == _hash(request_id))


def _hash(request_id: str) -> str:
    return hashlib.sha256(request_id.encode()).hexdigest() if request_id else ""
