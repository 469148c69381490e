"""A film's bytes, read by the connection's thread while the caller's may end the call."""

from __future__ import annotations

import io
import os
import stat
import threading
from typing import Protocol


class ReadableFile(Protocol):
    """Anything that reads bytes."""

    def read(self, size: int, /) -> bytes | None:
        """Returns at most `size` bytes, and none at the end."""


FilmSource = str | os.PathLike[str] | ReadableFile
"""A film's path, or a file object that reads its bytes."""


class Source:
    """A film to send.

    Closing never waits for a read that is under way in another thread: the file is closed when
    both are done, and every later read finds the end. Files of the caller's stay open.

    Raises:
        OSError: The path cannot be opened.
    """

    def __init__(self, source: FilmSource) -> None:
        self._owned = isinstance(source, (str, os.PathLike))
        self._file: ReadableFile
        if isinstance(source, (str, os.PathLike)):
            self._file = io.FileIO(source)
        else:
            self._file = source
        # A buffered reader's read() waits until a pipe has given all that was asked for.
        self._read = getattr(self._file, "read1", self._file.read)
        self._lock = threading.Lock()
        self._reading = False
        self._closed = False
        self.stat = _regular_file(self._file)
        self.size = None if self.stat is None else self.stat.st_size - _position(self._file)
        """Bytes from here to the end, where the film is a regular file."""
        self.position = 0
        """Bytes read so far."""

    def read(self, size: int) -> bytes:
        """Returns the next bytes, at most `size`; none at the end or once closed."""
        with self._lock:
            if self._closed:
                return b""
            self._reading = True
        try:
            data: bytes | None = self._read(size)
        finally:
            with self._lock:
                self._reading = False
                if self._closed:
                    self._close_file()
        if data is None:
            raise BlockingIOError("the film's file object is in non-blocking mode")
        self.position += len(data)
        return data

    def close(self) -> None:
        """Ends reading; safe to call more than once."""
        with self._lock:
            if not self._closed:
                self._closed = True
                if not self._reading:
                    self._close_file()

    def _close_file(self) -> None:
        if self._owned and isinstance(self._file, io.IOBase):
            self._file.close()


def _regular_file(file: ReadableFile) -> os.stat_result | None:
    # Only where what is read is what lies on the disk: gzip files have a file number as well.
    raw = file.raw if isinstance(file, (io.BufferedReader, io.BufferedRandom)) else file
    if not isinstance(raw, io.FileIO):
        return None
    facts = os.fstat(raw.fileno())
    return facts if stat.S_ISREG(facts.st_mode) else None


def _position(file: ReadableFile) -> int:
    return file.tell() if isinstance(file, io.IOBase) else 0
