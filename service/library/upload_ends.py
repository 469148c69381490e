"""Completes or drops uploads; both are idempotent and can be interrupted anywhere."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from service.library import layout
from service.library.film_source import Piece, SourceBytes
from service.library.films import Film, FilmExistsError, Films, film_not_found
from service.library.records import RecordFormat, UnreadableRecordError
from service.library.upload_errors import UploadAbortedError, upload_gone
from service.library.upload_probe import Probe, no_probe
from service.library.upload_records import UploadEnd, UploadRecord
from service.storage.objects import ObjectNotFoundError, ObjectStore


@dataclass(frozen=True, slots=True)
class Claim:
    """Which upload has a film's id."""

    upload: str
    """The upload's name in the bucket."""
    uid: str


_CLAIM = RecordFormat(Claim, versioned=False)


class UploadEnds:
    """Ends uploads. Blocking and thread-safe."""

    def __init__(self, store: ObjectStore, films: Films, probe: Probe = no_probe) -> None:
        """`probe` checks whether bytes are a film; without one, no upload can be completed."""
        self._store = store
        self._films = films
        self._probe = probe

    def claim(self, record: UploadRecord) -> None:
        """Claim the film's id; if it is taken, remove the upload and raise FilmExistsError."""
        claim = _CLAIM.encode(Claim(record.upload, record.uid))
        if not self._store.create(layout.film_claim(record.film_id), claim):
            if self._is_claim_of(record):
                return
        elif not self._taken(record.film_id):
            return
        self._forget(record)
        raise FilmExistsError(record.film_id)

    def complete(
        self,
        record: UploadRecord,
        parts: Sequence[Piece],
        digest: str,
        cancelled: threading.Event,
    ) -> Film:
        """Make a film from stored parts, unless another stream did so or the upload was dropped.

        Raises InvalidFieldError if they are not a film, UploadCancelledError, and as `finish`.
        """
        facts = self._probe(SourceBytes(self._store, parts, upload_gone), cancelled)
        film = Film(
            record.film_id,
            record.uid,
            record.settings.title,
            sum(part.size for part in parts),
            digest,
            datetime.now(UTC),
            facts,
        )
        end = UploadEnd(record.uid, film, tuple(part.key for part in parts))
        if end.create(self._store, record.upload):
            if not self._is_current(record):
                # It had been dropped.
                self._store.delete([layout.upload_end(record.upload), *end.parts])
                raise upload_gone()
        else:
            end = UploadEnd.find(self._store, record) or end
        return self.finish(record, end, digest)

    def finish(self, record: UploadRecord, end: UploadEnd, digest: str = "") -> Film:
        """Make the film of an upload that has ended.

        Raises UploadAbortedError if it was dropped, or became a film whose digest is not
        `digest`; NotFoundError if the film was deleted.
        """
        if end.film is None or end.uid != record.uid:
            raise upload_gone()
        if digest not in ("", end.film.digest):
            raise UploadAbortedError(
                "another stream of this upload sent other bytes, and was complete first",
                reason="UPLOAD_CONFLICT",
            )
        film = self._films.find(record.film_id)
        if film is None:
            film = self._add(end.film, end.parts)
        self._remove_bytes(record)
        if record.is_anonymous:
            self._remove_record(record)
        return film

    def drop(self, record: UploadRecord) -> bool:
        """Remove an upload and all its bytes; return False if it is complete and is kept."""
        if not UploadEnd(record.uid, None, ()).create(self._store, record.upload):
            end = UploadEnd.find(self._store, record)
            if end is not None and end.uid == record.uid and end.film is not None:
                return False
        self._forget(record)
        return True

    def forget_former(self, record: UploadRecord) -> None:
        """Remove the end of an earlier upload with the same name."""
        end = UploadEnd.find(self._store, record)
        if end is not None and end.uid != record.uid:
            self._store.delete([layout.upload_end(record.upload)])

    def _add(self, film: Film, parts: Sequence[str]) -> Film:
        if self._films.was_deleted(film.id):
            raise film_not_found(film.id)
        try:
            self._store.compose(layout.film_source(film.id), parts)
        except ObjectNotFoundError:
            # Another replica has finished, and removed the parts.
            return self._films.get(film.id)
        try:
            self._films.add(film)
        except FilmExistsError:
            # Deleted while this was in progress.
            self._store.delete([layout.film_source(film.id)])
            raise film_not_found(film.id) from None
        return film

    def _forget(self, record: UploadRecord) -> None:
        """Remove an upload that is not a film: its record second to last, its end last."""
        if self._is_claim_of(record):
            self._store.delete([layout.film_claim(record.film_id)])
        self._remove_bytes(record)
        self._remove_record(record)

    def _remove_bytes(self, record: UploadRecord) -> None:
        stay = (layout.upload_record(record.upload), layout.upload_end(record.upload))
        self._store.delete(
            info.key
            for info in self._store.list(layout.upload_folder(record.upload))
            if info.key not in stay
        )

    def _remove_record(self, record: UploadRecord) -> None:
        found = UploadRecord.find(self._store, record.upload)
        if found is not None and found.uid != record.uid:
            return  # Started again under the same name.
        if found is not None:
            self._store.delete([layout.upload_record(record.upload)])
        self._store.delete([layout.upload_end(record.upload)])

    def _is_current(self, record: UploadRecord) -> bool:
        found = UploadRecord.find(self._store, record.upload)
        return found is not None and found.uid == record.uid

    def _taken(self, film_id: str) -> bool:
        return self._films.was_deleted(film_id) or self._films.find(film_id) is not None

    def claimed_by(self, film_id: str) -> Claim | None:
        """Return which upload has, or had, a film's id."""
        try:
            return _CLAIM.decode(self._store.get(layout.film_claim(film_id)))
        except (ObjectNotFoundError, UnreadableRecordError):
            return None

    def _is_claim_of(self, record: UploadRecord) -> bool:
        claim = self.claimed_by(record.film_id)
        return claim is not None and claim.uid == record.uid
