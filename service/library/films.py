"""The films of the library. A film exists if its film.json does, which every reader checks."""

from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from film.facts import FilmFacts
from service.errors import ClientSideError, NotFoundError, Resource
from service.library import layout
from service.library.film_source import Piece, SourceBytes
from service.library.records import Moment, RecordFormat, UnreadableRecordError
from service.library.verified_reads import DamagedError
from service.storage.objects import ObjectNotFoundError, ObjectStore, is_there


@dataclass(frozen=True, slots=True)
class Film:
    """A film of the library; never changes."""

    id: str
    uid: str
    """A UUID: unique over all films, also under a reused id."""
    title: str
    size: int
    """Size of its source, in bytes."""
    digest: str
    """"sha256:" and 64 hexadecimal digits over its source."""
    created: Moment
    """When it was added; aware, UTC."""
    facts: FilmFacts

    def encode(self) -> bytes:
        """Return the film in its stored form."""
        return FILM.encode(self)

    @classmethod
    def decode(cls, data: bytes, film_id: str) -> "Film":
        """Parse a stored film; raises DamagedError."""
        try:
            return FILM.decode(data, id=film_id)
        except UnreadableRecordError as error:
            raise DamagedError(film_id, f"its facts {error}") from None


FILM = RecordFormat(Film)


class FilmExistsError(ClientSideError):
    """Another film has or had this id."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "FILM_EXISTS"

    def __init__(self, film_id: str) -> None:
        super().__init__(
            f"films/{film_id} is taken: another film has this id, had it, or is being uploaded "
            "under it; choose another id, or none",
            resource=film_resource(film_id),
        )


class Films:
    """All films. Blocking and thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def get(self, film_id: str) -> Film:
        """Return a film; raises NotFoundError (FILM_NOT_FOUND), DamagedError."""
        film = self.find(film_id)
        if film is None:
            raise film_not_found(film_id)
        return film

    def find(self, film_id: str, uid: str | None = None) -> Film | None:
        """Return a film, or None if there is none; raises DamagedError.

        `uid`: return only the film that has it, not a later film with the same id.
        """
        try:
            film = Film.decode(self._store.get(layout.film_facts(film_id)), film_id)
        except ObjectNotFoundError:
            return None
        return film if uid in (None, film.uid) else None

    def exists(self, film_id: str, uid: str) -> bool:
        """Return whether a film still exists; every reader checks it right before it responds.

        One small request to the store, never cached, so deletions on other replicas count.
        """
        return self.find(film_id, uid) is not None

    def require(self, film_id: str, uid: str) -> None:
        """Raise NotFoundError (FILM_NOT_FOUND) if a film no longer exists."""
        if not self.exists(film_id, uid):
            raise film_deleted(film_id)

    def ids(self, *, after: str = "") -> Iterator[str]:
        """Yield the ids of all films after `after`, in the order of their keys.

        May include ids of uploads in progress, and of films that were just deleted.
        """
        return self._store.folders(layout.FILMS, after=after)

    def list(self, *, after: str = "") -> Iterator[Film]:
        """Yield all films after the id `after`, in the order of `ids`."""
        for film_id in self.ids(after=after):
            film = self.find(film_id)
            if film is not None:
                yield film

    def source(self, film: Film) -> SourceBytes:
        """Return a film's bytes.

        Reads raise NotFoundError after a deletion, and DamagedError if bytes are missing.
        """

        def missing() -> Exception:
            if not self.exists(film.id, film.uid):
                return film_not_found(film.id)
            return DamagedError(film.id, "its source is missing or shorter than it was")

        return SourceBytes(self._store, [Piece(layout.film_source(film.id), film.size)], missing)

    def add(self, film: Film) -> None:
        """Add a film whose source is stored; idempotent.

        Raises FilmExistsError if another has the id, or a film with it was deleted.
        """
        if self.was_deleted(film.id):
            raise FilmExistsError(film.id)
        if not self._store.create(layout.film_facts(film.id), film.encode()):
            found = self.find(film.id)
            if found is None or found.uid != film.uid:
                raise FilmExistsError(film.id)
        # Another replica may have added and deleted the same film meanwhile.
        if self.was_deleted(film.id):
            self._store.delete([layout.film_facts(film.id)])
            raise FilmExistsError(film.id)

    def was_deleted(self, film_id: str) -> bool:
        """Return whether a film with this id was deleted."""
        return is_there(self._store, layout.deleted(film_id))


def film_resource(film_id: str) -> Resource:
    """Return the resource of an error about a film."""
    return Resource("film", f"films/{film_id}")


def film_deleted(film_id: str) -> NotFoundError:
    """Return the error for a film that was deleted meanwhile."""
    return NotFoundError(
        f"films/{film_id} was deleted", reason="FILM_NOT_FOUND", resource=film_resource(film_id)
    )


def film_not_found(film_id: str) -> NotFoundError:
    """Return the error for a film that does not exist."""
    return NotFoundError(
        f"there is no film films/{film_id}",
        reason="FILM_NOT_FOUND",
        resource=film_resource(film_id),
    )
