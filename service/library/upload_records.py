"""Records of uploads and their ends, as JSON in the bucket.

An upload ends once: `end.json` is created, never replaced, and says whether the upload is complete
or dropped. So if a stream finishes while a caller cancels the upload, on any replicas, one wins,
and the other sees it.
"""

import re
import secrets
import unicodedata
import uuid
from dataclasses import dataclass
from typing import Annotated, Self, TypeAlias

from pydantic import Field, PlainSerializer, PlainValidator

from service.library import layout
from service.library.films import FILM, Film
from service.library.records import RecordFormat, UnreadableRecordError
from service.library.verified_reads import DamagedError
from service.storage.objects import ObjectNotFoundError, ObjectStore

_SLUG_LENGTH = 40


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """The caller's settings for an upload; the same in every call that resumes it."""

    upload_id: str = ""
    """1 to 64 letters, digits, "-", "_" or "."; empty: the upload cannot be resumed."""
    film_id: str = ""
    """As `layout.FILM_ID`; empty: derived from the title."""
    title: str = ""
    size: int | None = None
    """Size of the film in bytes, if known."""
    digest: str = ""
    """"sha256:…" over the film's bytes, if known."""


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload as it was started."""

    upload: str
    """The upload's name in the bucket."""
    uid: str
    """Distinguishes it from earlier and later uploads of the same name; becomes the film's uid."""
    film_id: Annotated[str, Field(alias="film")]
    by_url: bool
    """Whether its bytes are sent to an upload URL."""
    settings: UploadSettings

    @classmethod
    def new(cls, settings: UploadSettings, *, by_url: bool) -> Self:
        """Return the record of a new upload."""
        return cls(
            upload_key(settings.upload_id) if settings.upload_id else f"~{uuid.uuid4().hex}",
            str(uuid.uuid4()),
            settings.film_id or _film_id(settings.title),
            by_url,
            settings,
        )

    @property
    def is_anonymous(self) -> bool:
        """Whether it cannot be resumed."""
        return not self.settings.upload_id

    def encode(self) -> bytes:
        """Return the record in its stored form."""
        return _RECORD.encode(self)

    @classmethod
    def find(cls, store: ObjectStore, upload: str) -> "UploadRecord | None":
        """Return the upload with a name in the bucket; None if there is no readable one."""
        try:
            return _RECORD.decode(store.get(layout.upload_record(upload)), upload=upload)
        except (ObjectNotFoundError, UnreadableRecordError):
            return None


_RECORD = RecordFormat(UploadRecord, in_key=("upload",))


def _film_as_stored(film: Film | None) -> str | None:
    return None if film is None else FILM.encode(film).decode()


def _stored_film(data: str | None) -> Film | None:
    return None if data is None else FILM.decode(data)


StoredFilm: TypeAlias = Annotated[
    Film | None, PlainValidator(_stored_film), PlainSerializer(_film_as_stored)
]
"""A film, as in its future film.json."""


@dataclass(frozen=True, slots=True)
class UploadEnd:
    """How an upload ended."""

    uid: str
    """The upload's uid."""
    film: StoredFilm
    """The film it became; None if it was dropped."""
    parts: tuple[str, ...]
    """The keys of the objects that compose the film's source."""

    def create(self, store: ObjectStore, upload: str) -> bool:
        """Record this end unless one exists; return whether this call did."""
        return store.create(layout.upload_end(upload), _END.encode(self))

    @classmethod
    def find(cls, store: ObjectStore, record: UploadRecord) -> "UploadEnd | None":
        """Return how an upload ended; None while it has not. Raises DamagedError."""
        try:
            return _END.decode(store.get(layout.upload_end(record.upload)))
        except ObjectNotFoundError:
            return None
        except UnreadableRecordError as error:
            raise DamagedError(record.film_id, f"the end of its upload {error}") from None


_END = RecordFormat(UploadEnd)


def upload_key(upload_id: str) -> str:
    """Return an upload's name in the bucket, where no name begins with "."."""
    return f"~{upload_id}" if upload_id.startswith(".") else upload_id


def slug(title: str, length: int = _SLUG_LENGTH) -> str:
    """Return a title's lowercase letters and digits, joined by "-"; may be empty."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:length].strip("-")


def _film_id(title: str) -> str:
    return f"{slug(title) or 'film'}-{secrets.token_hex(4)}"
