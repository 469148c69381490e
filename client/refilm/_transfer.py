"""A film's bytes for an upload: hashed, and read again after an interruption."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import deque
from collections.abc import Callable

from refilm._film_values import TransferProgress
from refilm._source import FilmSource, Source

_READ_BYTES = 1 << 20
# A SHA-256 state takes some hundred bytes: a feature film's marks take less than a megabyte.
_MARK_BYTES = 8 << 20
_WINDOW_SECONDS = 10.0
_SECONDS_BETWEEN_REPORTS = 0.5


class Fingerprint:
    """The SHA-256 of a film's first bytes; can go back without starting again."""

    def __init__(self) -> None:
        self.position = 0
        """The number of bytes that it covers."""
        self._hash = hashlib.sha256()
        self._marks = [(0, self._hash.copy())]

    def update(self, data: bytes) -> None:
        """Adds the next bytes."""
        self._hash.update(data)
        self.position += len(data)
        if self.position - self._marks[-1][0] >= _MARK_BYTES:
            self._marks.append((self.position, self._hash.copy()))

    def go_back(self, position: int) -> int:
        """Goes back to the last mark up to `position`; returns the mark's position."""
        if position < self.position:
            while self._marks[-1][0] > position:
                self._marks.pop()
            self.position, mark = self._marks[-1]
            self._hash = mark.copy()
        return self.position

    def digest(self) -> str:
        """Returns "sha256:" and 64 hexadecimal digits."""
        return f"sha256:{self._hash.hexdigest()}"


class UploadFile:
    """A film to upload: `begin` returns a reader from the upload's offset.

    Raises:
        OSError: The path cannot be opened.
    """

    def __init__(self, source: FilmSource | bytes) -> None:
        self._source = Source(io.BytesIO(source) if isinstance(source, bytes) else source)
        self.size = self._source.size
        """Bytes, if it is a regular file or in memory."""
        self.rereadable = self._source.seekable
        """Whether it can seek backwards."""
        self._fingerprint = Fingerprint()
        self._lock = threading.Lock()
        self._reader: object = None

    def begin(self, offset: int) -> UploadReader:
        """Returns a reader of the bytes from `offset`; earlier readers return nothing from now on.

        Raises:
            ValueError: The source ends before `offset`.
        """
        with self._lock:
            reader = self._reader = UploadReader(self)
            position = self._fingerprint.go_back(offset)
            if self.rereadable:
                self._source.seek(position)
            while (missing := offset - self._fingerprint.position) > 0:
                if not self._take(min(missing, _READ_BYTES)):
                    raise ValueError(
                        f"the source ends after {self._fingerprint.position} bytes and {offset} of "
                        "this upload are committed: it is another film"
                    )
        return reader

    def read(self, reader: UploadReader, size: int) -> bytes:
        """Returns the next bytes; none at the end, and none to any reader but the newest."""
        # An interrupted call may still be reading when the next one begins.
        with self._lock:
            return self._take(size) if self._reader is reader else b""

    def digest(self) -> str:
        """Reads the rest; returns the digest of the whole."""
        with self._lock:
            self._reader = None
            if self.rereadable:
                self._source.seek(self._fingerprint.position)
            while self._take(_READ_BYTES):
                pass
            return self._fingerprint.digest()

    def close(self) -> None:
        """Ends reading."""
        self._source.close()

    def _take(self, size: int) -> bytes:
        data = self._source.read(size)
        self._fingerprint.update(data)
        return data


class UploadReader:
    """Reads an `UploadFile` until another reader does."""

    def __init__(self, file: UploadFile) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """Returns the next bytes, at most `size`; none at the end."""
        return self._file.read(self, size)


class TransferMeter:
    """Reports a transfer's progress to a callback, about twice a second."""

    def __init__(
        self,
        report: Callable[[TransferProgress], object] | None,
        total: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self.total = total
        self._clock = clock
        self._next = 0.0
        self._marks: deque[tuple[float, int]] = deque()

    def went_on(self, done: int) -> None:
        """Records that `done` bytes are transferred."""
        now = self._clock()
        if self._report is not None and now >= self._next:
            self._next = now + _SECONDS_BETWEEN_REPORTS
            self._tell(now, done)

    def restart(self) -> None:
        """Records that the data begins at another offset; skipped bytes do not count as work."""
        self._marks.clear()

    def finish(self, done: int) -> None:
        """Reports that everything is transferred."""
        self.total = done
        if self._report is not None:
            self._tell(self._clock(), done)

    def _tell(self, now: float, done: int) -> None:
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] >= _WINDOW_SECONDS:
            self._marks.popleft()
        then, before = self._marks[0]
        rate = (done - before) / (now - then) if now > then and done > before else None
        if self._report is not None:
            self._report(TransferProgress(done, self.total, rate))
