"""A film's bytes, read by the connection's thread while the caller's thread may end the call."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable
from typing import Protocol, TypeGuard


class ReadableFile(Protocol):
    """Anything that reads bytes."""

    def read(self, size: int, /) -> bytes | None:
        """Returns at most `size` bytes; none at the end."""


FilmSource = str | os.PathLike[str] | ReadableFile
"""A film's path, or a file object that reads its bytes."""


def is_file(source: object) -> TypeGuard[FilmSource | bytes]:
    """Returns whether a source is a path, bytes or a file object, not an iterable of pieces."""
    return isinstance(source, (str, bytes, os.PathLike)) or hasattr(source, "read")


class PulledFile:
    """Pieces of a film as a file; `pull` returns the next one, None at the end."""

    def __init__(self, pull: Callable[[], bytes | None]) -> None:
        self._pull = pull
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes; none at the end."""
        while not self._rest:
            piece = self._pull()
            if piece is None:
                return b""
            self._rest = piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class Source:
    """A film to send.

    Closing never waits for a read in progress on another thread: the file is closed when both are
    done, and every later read returns nothing. The caller's own files stay open.

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
        # A buffered reader's read() waits until a pipe has delivered all that was requested.
        self._read = getattr(self._file, "read1", self._file.read)
        self._lock = threading.Lock()
        self._reading = False
        self._closed = False
        self.stat = _regular_file(self._file)
        self._origin = _position(self._file)
        self.size = _size(self._file, self.stat, self._origin)
        """Bytes from here to the end, if the film is a regular file or in memory."""
        self.seekable = isinstance(self._file, io.IOBase) and self._file.seekable()
        """Whether it can be read again."""
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

    def seek(self, position: int) -> None:
        """Seeks to `position` bytes from the start, while nobody reads; a no-op once closed."""
        with self._lock:
            if not self._closed and isinstance(self._file, io.IOBase):
                self._file.seek(self._origin + position)
                self.position = position

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
    # Only if what is read are the bytes on disk: gzip files have a file number as well.
    raw = file.raw if isinstance(file, (io.BufferedReader, io.BufferedRandom)) else file
    if not isinstance(raw, io.FileIO):
        return None
    facts = os.fstat(raw.fileno())
    return facts if stat.S_ISREG(facts.st_mode) else None


def _position(file: ReadableFile) -> int:
    return file.tell() if isinstance(file, io.IOBase) and file.seekable() else 0


def _size(file: ReadableFile, facts: os.stat_result | None, origin: int) -> int | None:
    if isinstance(file, io.BytesIO):
        return len(file.getbuffer()) - origin
    return None if facts is None else facts.st_size - origin
