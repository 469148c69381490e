"""Uploads: started, resumed, cancelled, by stream or by URL.

At the end a film is checked, the upload's end is recorded (`UploadEnd`), the source is composed,
and film.json, written last, commits the film. If this is interrupted, the next call or the sweep
completes it.
"""

import hashlib
import secrets
import threading
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta

from service.errors import ClientSideError, InvalidFieldError
from service.library import layout
from service.library.film_source import Piece
from service.library.films import Film, Films
from service.library.upload import PART_BYTES, Upload, check_cancelled, stored_parts
from service.library.upload_ends import UploadEnds
from service.library.upload_errors import (
    UploadCancelledError,
    UploadConflictError,
    UploadIncompleteError,
    film_too_large,
    offset_mismatch,
    upload_exists,
    upload_gone,
    upload_not_found,
    wrong_digest,
)
from service.library.upload_probe import Probe, no_probe
from service.library.upload_records import UploadEnd, UploadRecord, upload_key
from service.library.upload_records import UploadSettings as UploadSettings
from service.storage.objects import ObjectNotFoundError, ObjectStore


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """Progress of an upload."""

    committed: int
    """Bytes stored durably."""
    film: Film | None
    """The film, once it is in the library."""


class Uploads:
    """All uploads. Blocking and thread-safe."""

    def __init__(
        self, store: ObjectStore, films: Films, *, film_bytes: int, probe: Probe = no_probe
    ) -> None:
        """`film_bytes`: the size limit for a film; `probe` checks whether bytes are a film."""
        self._store = store
        self._films = films
        self._ends = UploadEnds(store, films, probe)
        self._film_bytes = film_bytes

    def open(self, settings: UploadSettings, write_offset: int = 0) -> "Upload":
        """Start or resume an upload.

        Raises ClientSideError: FILM_EXISTS; UPLOAD_EXISTS, if the upload was started with other
        settings; UPLOAD_OFFSET_MISMATCH, with the committed size; FILM_TOO_LARGE.
        """
        record = self._begin(settings, by_url=False)
        end = UploadEnd.find(self._store, record)
        if end is not None:
            return Upload(self._store, self._ends, record, [], self._film_bytes, end)
        parts = stored_parts(self._store, record.upload)
        committed = len(parts) * PART_BYTES
        if write_offset != committed:
            raise offset_mismatch(write_offset, committed)
        return Upload(self._store, self._ends, record, parts, self._film_bytes)

    def progress(self, upload_id: str) -> UploadProgress:
        """Return an upload's progress; raises NotFoundError (UPLOAD_NOT_FOUND)."""
        record = self._get(upload_id)
        end = UploadEnd.find(self._store, record)
        if end is not None:
            if end.film is None:
                raise upload_not_found(upload_id)
            film = self._films.find(record.film_id)
            return UploadProgress(end.film.size, film)
        if record.by_url:
            try:
                return UploadProgress(
                    self._store.info(layout.upload_source(record.upload)).size, None
                )
            except ObjectNotFoundError:
                return UploadProgress(0, None)
        return UploadProgress(len(stored_parts(self._store, record.upload)) * PART_BYTES, None)

    def cancel(self, upload_id: str) -> None:
        """Cancel an upload; raises NotFoundError, or UploadConflictError if it is complete."""
        record = self._get(upload_id)
        if not self._ends.drop(record):
            raise UploadConflictError(
                f"the upload is complete: it is films/{record.film_id} now; delete that",
                reason="UPLOAD_COMPLETE",
            )

    def presign(self, settings: UploadSettings, time_to_live: timedelta) -> str:
        """Start an upload by URL and return the URL, or a new one for the same upload.

        Raises PresigningUnsupportedError, and as `open`.
        """
        url = self._store.presigned_put(
            layout.upload_source(upload_key(settings.upload_id)), time_to_live
        )
        self._begin(settings, by_url=True)
        return url

    def complete(self, upload_id: str, cancelled: threading.Event) -> Film:
        """Make a film from the bytes at an upload URL; idempotent.

        The bytes are copied first and the copy is checked: whoever has the URL can put other bytes
        at any time. Raises UploadCancelledError once `cancelled` is set.
        """
        record = self._get(upload_id)
        if not record.by_url:
            raise UploadConflictError(
                "the upload has no URL: its bytes come through the service",
                reason="UPLOAD_HAS_NO_URL",
            )
        end = UploadEnd.find(self._store, record)
        if end is not None:
            return self._ends.finish(record, end)
        size = self._put_size(record)
        copy = layout.upload_taken(record.upload, secrets.token_hex(8))
        try:
            self._store.compose(copy, [layout.upload_source(record.upload)])
        except ObjectNotFoundError:
            raise upload_gone() from None
        taken = Piece(copy, size)
        try:
            digest = self._digest(taken, cancelled)
            if record.settings.digest not in ("", digest):
                raise wrong_digest(record.settings.digest, digest)
            return self._ends.complete(record, [taken], digest, cancelled)
        except (ClientSideError, UploadCancelledError) as error:
            self._store.delete([copy])
            if isinstance(error, InvalidFieldError):
                self._ends.drop(record)
            raise

    def _put_size(self, record: UploadRecord) -> int:
        try:
            size = self._store.info(layout.upload_source(record.upload)).size
        except ObjectNotFoundError:
            raise UploadIncompleteError("nothing was put to the upload URL yet") from None
        announced = record.settings.size
        if not size:
            raise UploadIncompleteError("an empty body was put to the upload URL")
        if size > self._film_bytes:
            self._ends.drop(record)
            raise film_too_large(self._film_bytes)
        if announced is not None and size != announced:
            raise UploadIncompleteError(
                f"{size} bytes were put to the upload URL, {announced} were announced"
            )
        return size

    def _digest(self, taken: Piece, cancelled: threading.Event) -> str:
        digest, size = hashlib.sha256(), 0
        try:
            with closing(self._store.read(taken.key)) as pieces:
                for piece in pieces:
                    check_cancelled(cancelled)
                    digest.update(piece)
                    size += len(piece)
        except ObjectNotFoundError:
            raise upload_gone() from None
        if size != taken.size:
            raise upload_gone()
        return f"sha256:{digest.hexdigest()}"

    def _get(self, upload_id: str) -> UploadRecord:
        record = UploadRecord.find(self._store, upload_key(upload_id))
        if record is None:
            raise upload_not_found(upload_id)
        return record

    def _begin(self, settings: UploadSettings, *, by_url: bool) -> UploadRecord:
        if settings.size is not None and settings.size > self._film_bytes:
            raise film_too_large(self._film_bytes)
        record = UploadRecord.new(settings, by_url=by_url)
        while not self._store.create(layout.upload_record(record.upload), record.encode()):
            found = UploadRecord.find(self._store, record.upload)
            if found is None:
                continue  # It was just dropped.
            if found.settings != settings or found.by_url != by_url:
                raise upload_exists(found.settings, settings)
            end = UploadEnd.find(self._store, found)
            if end is not None and end.uid == found.uid:
                if end.film is not None:
                    return found
                self._ends.drop(found)  # Complete an interrupted drop.
                continue
            record = found
            break
        self._ends.forget_former(record)
        self._ends.claim(record)
        return record
