"""The upload of one film's bytes, in parts.

Bytes are buffered into parts of 8 MiB, each stored as an object. A part's key has its offset and
the digest of all the film's bytes up to its end, so parts of different bytes under the same upload
never mix. Any number of streams may run concurrently, on any replicas: the first to complete wins.
"""

import hashlib
import threading
from functools import partial
from typing import Final

from service.errors import DataLossError, InvalidFieldError
from service.library import layout
from service.library.film_source import Piece, SourceBytes
from service.library.films import Film
from service.library.upload_ends import UploadEnds
from service.library.upload_errors import (
    UploadCancelledError,
    film_too_large,
    offset_mismatch,
    upload_gone,
    wrong_digest,
)
from service.library.upload_probe import HEAD_BYTES, check_head
from service.library.upload_records import UploadEnd, UploadRecord
from service.storage.objects import ObjectStore

PART_BYTES: Final = 8 * 2**20
"""All parts of a film but the last have exactly this size."""


class Upload:
    """One upload in progress. Blocks; calls on several threads are serialized, except `cancel`.

    If its error says that the bytes cannot become a film, the upload was dropped.
    """

    def __init__(
        self,
        store: ObjectStore,
        ends: UploadEnds,
        record: UploadRecord,
        parts: list[Piece],
        film_bytes: int,
        end: UploadEnd | None = None,
    ) -> None:
        """`parts`: the stored ones; `end`: how the upload ended, if it has."""
        self._store = store
        self._ends = ends
        self._record = record
        self._parts = parts
        self._film_bytes = film_bytes
        self._end = end
        self._digest = hashlib.sha256()
        self._read_again = not parts
        """Whether the digest is of all stored parts."""
        self._gathered = bytearray()
        self._head_checked = bool(parts)
        self._cancelled = threading.Event()
        self._busy = threading.RLock()

    @property
    def film_id(self) -> str:
        """The film's id, known from the start."""
        return self._record.film_id

    @property
    def committed(self) -> int:
        """Bytes stored durably."""
        if self._end is not None and self._end.film is not None:
            return self._end.film.size
        return sum(part.size for part in self._parts)

    @property
    def complete(self) -> bool:
        """Whether an earlier stream completed the film: further bytes are ignored."""
        return self._end is not None

    def cancel(self) -> None:
        """Make current and later calls raise UploadCancelledError. Thread-safe."""
        self._cancelled.set()

    def write(self, chunk: bytes) -> None:
        """Write the film's next bytes; returns once they are stored or buffered.

        Raises InvalidFieldError (not a film, more bytes than announced), OverloadedError
        (FILM_TOO_LARGE) or UPLOAD_OFFSET_MISMATCH, if stored parts turned out to be damaged.
        """
        with self._busy:
            check_cancelled(self._cancelled)
            if self._end is not None:
                return
            self._catch_up()
            self._check_size(self.committed + len(self._gathered) + len(chunk))
            self._gathered += chunk
            if not self._head_checked and len(self._gathered) >= HEAD_BYTES:
                self._check_head()
            while len(self._gathered) >= PART_BYTES:
                self._put(bytes(self._gathered[:PART_BYTES]))
                del self._gathered[:PART_BYTES]

    def keep(self) -> None:
        """Stop the stream; committed bytes are kept if the upload can be resumed."""
        with self._busy:
            self._gathered.clear()
            if self._record.is_anonymous:
                self.drop()

    def drop(self) -> None:
        """Remove everything, except a complete film."""
        with self._busy:
            self._gathered.clear()
            self._ends.drop(self._record)

    def finish(self) -> Film:
        """Make the film; idempotent, even after an interruption.

        Raises InvalidFieldError (not a film, another digest), DataLossError (fewer bytes than
        announced; they stay), NotFoundError (deleted meanwhile), UPLOAD_CONFLICT or UPLOAD_GONE.
        """
        with self._busy:
            check_cancelled(self._cancelled)
            if self._end is not None:
                return self._ends.finish(self._record, self._end)
            self._catch_up()
            self._check_whole()
            if not self._head_checked:
                self._check_head()
            if self._gathered:
                self._put(bytes(self._gathered))
                self._gathered.clear()
            digest = f"sha256:{self._digest.hexdigest()}"
            wanted = self._record.settings.digest
            if wanted not in ("", digest):
                self.drop()
                raise wrong_digest(wanted, digest)
            try:
                return self._ends.complete(self._record, self._parts, digest, self._cancelled)
            except InvalidFieldError:
                self.drop()
                raise

    def _check_size(self, size: int) -> None:
        announced = self._record.settings.size
        if announced is not None and size > announced:
            self.drop()
            raise InvalidFieldError(
                "chunk",
                f"the film holds more than the {announced} bytes announced",
                reason="FILM_SIZE_MISMATCH",
            )
        if size > self._film_bytes:
            self.drop()
            raise film_too_large(self._film_bytes)

    def _check_whole(self) -> None:
        size, announced = self.committed + len(self._gathered), self._record.settings.size
        if announced is not None and size < announced:
            self.keep()
            raise DataLossError(
                f"the stream ended after {size} of the {announced} announced; resume from the "
                "committed size, with the same upload_id",
                metadata={"committed_bytes": str(self.committed)},
            )
        if not size:
            self.drop()
            raise InvalidFieldError(
                "chunk", "the stream ended without one byte of a film", reason="EMPTY_FILM"
            )

    def _check_head(self) -> None:
        self._head_checked = True
        try:
            check_head(bytes(self._gathered[:HEAD_BYTES]))
        except InvalidFieldError:
            self.drop()
            raise

    def _put(self, part: bytes) -> None:
        check_cancelled(self._cancelled)
        # Updated only after the part is stored: if the store is down, the part is put again.
        digest = self._digest.copy()
        digest.update(part)
        key = layout.upload_part(self._record.upload, self.committed, digest.hexdigest())
        self._store.put(key, part)
        self._digest = digest
        self._parts.append(Piece(key, len(part)))

    def _catch_up(self) -> None:
        """Advance the digest over the stored parts, which also verifies them."""
        if self._read_again:
            return
        for number, part in enumerate(self._parts):
            check = partial(check_cancelled, self._cancelled)
            source = SourceBytes(self._store, [part], upload_gone, check)
            self._digest.update(source.read(0, part.size))
            if not part.key.endswith(self._digest.hexdigest()):
                self._store.delete([damaged.key for damaged in self._parts[number:]])
                raise offset_mismatch(self.committed, number * PART_BYTES)
        self._read_again = True


def stored_parts(store: ObjectStore, upload: str) -> list[Piece]:
    """Return the contiguous stored parts from the film's first byte."""
    chain: list[Piece] = []
    offset = 0
    candidate: Piece | None = None
    prefix = layout.upload_parts(upload)
    for info in store.list(prefix):
        begins = int(info.key.removeprefix(prefix).split("-")[0])
        if begins == offset + PART_BYTES and candidate is not None:
            chain.append(candidate)
            candidate, offset = None, begins
        if info.size != PART_BYTES:
            continue  # The film's last part: it was never acknowledged, so it is sent again.
        if begins != offset or candidate is not None:
            return chain  # A gap, or parts of two films: the caller's bytes will decide.
        candidate = Piece(info.key, info.size)
    return [*chain, candidate] if candidate is not None else chain


def check_cancelled(cancelled: threading.Event) -> None:
    """Raise UploadCancelledError if an upload was cancelled."""
    if cancelled.is_set():
        raise UploadCancelledError("the upload was cancelled")
