"""The films of the library. A film exists when its film.json does: every reader asks for that."""

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
    """Tells it from every other that was ever kept under any id: a UUID."""
    title: str
    size: int
    """Bytes of its source."""
    digest: str
    """"sha256:" and 64 hexadecimal digits over its source."""
    created: Moment
    """When it came into the library; aware, UTC."""
    facts: FilmFacts

    def encode(self) -> bytes:
        """Return it as stored."""
        return FILM.encode(self)

    @classmethod
    def decode(cls, data: bytes, film_id: str) -> "Film":
        """Return what was stored for a film; raises DamagedError."""
        try:
            return FILM.decode(data, id=film_id)
        except UnreadableRecordError as error:
            raise DamagedError(film_id, f"its facts {error}") from None


FILM = RecordFormat(Film)


class FilmExistsError(ClientSideError):
    """Another film has this id, or had it."""

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

    def find(self, film_id: str) -> Film | None:
        """Return a film, or None if there is none; raises DamagedError."""
        try:
            return Film.decode(self._store.get(layout.film_facts(film_id)), film_id)
        except ObjectNotFoundError:
            return None

    def exists(self, film_id: str, uid: str) -> bool:
        """Return whether a film is (still) there: what every reader asks right before it answers.

        One small request to the store, never answered from memory: a film that was deleted on
        another replica is gone here too.
        """
        film = self.find(film_id)
        return film is not None and film.uid == uid

    def require(self, film_id: str, uid: str) -> None:
        """Raise NotFoundError (FILM_NOT_FOUND) where work goes on for a film that is gone."""
        if not self.exists(film_id, uid):
            raise film_deleted(film_id)

    def ids(self, *, after: str = "") -> Iterator[str]:
        """Yield the ids of all films, those after `after`, in the order of their keys.

        Some may be ids of uploads on their way, or of films that were just deleted.
        """
        return self._store.folders(layout.FILMS, after=after)

    def list(self, *, after: str = "") -> Iterator[Film]:
        """Yield all films, those after the id `after`, in the order of `ids`."""
        for film_id in self.ids(after=after):
            film = self.find(film_id)
            if film is not None:
                yield film

    def source(self, film: Film) -> SourceBytes:
        """Return a film's bytes, to be read.

        Reads raise NotFoundError once the film was deleted, DamagedError where bytes are missing.
        """

        def missing() -> Exception:
            if not self.exists(film.id, film.uid):
                return film_not_found(film.id)
            return DamagedError(film.id, "its source is missing or shorter than it was")

        return SourceBytes(self._store, [Piece(layout.film_source(film.id), film.size)], missing)

    def add(self, film: Film) -> None:
        """Make a film exist, whose source is in place; again is the same.

        Raises FilmExistsError if another has the id, or a film with it was deleted.
        """
        if self.was_deleted(film.id):
            raise FilmExistsError(film.id)
        if not self._store.create(layout.film_facts(film.id), film.encode()):
            found = self.find(film.id)
            if found is None or found.uid != film.uid:
                raise FilmExistsError(film.id)
        # A deletion may have come between, of the same film that another replica had added.
        if self.was_deleted(film.id):
            self._store.delete([layout.film_facts(film.id)])
            raise FilmExistsError(film.id)

    def was_deleted(self, film_id: str) -> bool:
        """Return whether there was a film with this id that was deleted."""
        return is_there(self._store, layout.deleted(film_id))


def film_resource(film_id: str) -> Resource:
    """Return what an error about a film names."""
    return Resource("film", f"films/{film_id}")


def film_deleted(film_id: str) -> NotFoundError:
    """Return the error of work for a film that was deleted while it went on."""
    return NotFoundError(
        f"films/{film_id} was deleted", reason="FILM_NOT_FOUND", resource=film_resource(film_id)
    )


def film_not_found(film_id: str) -> NotFoundError:
    """Return the error for a film that is not there."""
    return NotFoundError(
        f"there is no film films/{film_id}",
        reason="FILM_NOT_FOUND",
        resource=film_resource(film_id),
    )
