"""What an upload is and how it ended, as JSON in the bucket.

An upload ends once: `end.json` is created, never replaced, and says whether the upload is complete
or dropped. So of a stream that finishes and a caller who gives the upload up, on whatever replicas,
one wins, and the other sees it.
"""

import json
import re
import secrets
import unicodedata
import uuid
from dataclasses import dataclass
from typing import Self

from service.library import layout
from service.library.films import Film
from service.library.verified_reads import DamagedError
from service.storage.objects import ObjectNotFoundError, ObjectStore

_VERSION = 1
_SLUG_LENGTH = 40


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """What a caller says of an upload; the same in every call that goes on with it."""

    upload_id: str = ""
    """1 to 64 letters, digits, "-", "_" or "."; empty: the upload cannot be gone on with."""
    film_id: str = ""
    """As `layout.FILM_ID`; empty: made of the title."""
    title: str = ""
    size: int | None = None
    """Bytes of the film, where known."""
    digest: str = ""
    """"sha256:…" over the film's bytes, where known."""


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload as it was begun."""

    upload: str
    """Its name in the bucket."""
    uid: str
    """Tells it from others of the same name, before and after; becomes the film's."""
    film_id: str
    settings: UploadSettings
    by_url: bool
    """Whether its bytes come by an upload URL."""

    @classmethod
    def new(cls, settings: UploadSettings, *, by_url: bool) -> Self:
        """Return the record of an upload that begins."""
        return cls(
            upload_key(settings.upload_id) if settings.upload_id else f"~{uuid.uuid4().hex}",
            str(uuid.uuid4()),
            settings.film_id or _film_id(settings.title),
            settings,
            by_url,
        )

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody can go on with it."""
        return not self.settings.upload_id

    def encode(self) -> bytes:
        """Return it as stored."""
        settings = self.settings
        return json.dumps(
            {
                "version": _VERSION,
                "uid": self.uid,
                "film": self.film_id,
                "by_url": self.by_url,
                "settings": {
                    "upload_id": settings.upload_id,
                    "film_id": settings.film_id,
                    "title": settings.title,
                    "size": settings.size,
                    "digest": settings.digest,
                },
            }
        ).encode()

    @classmethod
    def find(cls, store: ObjectStore, upload: str) -> Self | None:
        """Return the upload of a name in the bucket; None where there is none that can be read."""
        try:
            found = json.loads(store.get(layout.upload_record(upload)))
            if found["version"] != _VERSION:
                return None
            return cls(
                upload,
                found["uid"],
                found["film"],
                UploadSettings(**found["settings"]),
                found["by_url"],
            )
        except (ObjectNotFoundError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class UploadEnd:
    """How an upload ended."""

    uid: str
    """The upload's."""
    film: Film | None
    """The film it became; None: it was dropped."""
    parts: tuple[str, ...]
    """The keys of what the film's source is composed of."""

    def create(self, store: ObjectStore, upload: str) -> bool:
        """End the upload like this; return whether it had not ended before."""
        film = None if self.film is None else self.film.encode().decode()
        return store.create(
            layout.upload_end(upload),
            json.dumps(
                {"version": _VERSION, "uid": self.uid, "film": film, "parts": self.parts}
            ).encode(),
        )

    @classmethod
    def find(cls, store: ObjectStore, record: UploadRecord) -> Self | None:
        """Return how an upload ended; None while it has not. Raises DamagedError."""
        try:
            found = json.loads(store.get(layout.upload_end(record.upload)))
            film = found["film"]
            return cls(
                found["uid"],
                None if film is None else Film.decode(film.encode(), record.film_id),
                tuple(found["parts"]),
            )
        except ObjectNotFoundError:
            return None
        except (KeyError, TypeError, ValueError):
            raise DamagedError(record.film_id, "the end of its upload cannot be read") from None


def upload_key(upload_id: str) -> str:
    """Return an upload's name in the bucket, where no name begins with "."."""
    return f"~{upload_id}" if upload_id.startswith(".") else upload_id


def slug(title: str, length: int = _SLUG_LENGTH) -> str:
    """Return a title's small letters and digits, joined by "-"; may be empty."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:length].strip("-")


def _film_id(title: str) -> str:
    return f"{slug(title) or 'film'}-{secrets.token_hex(4)}"
