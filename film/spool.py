"""Film bytes on their way in: a growing temporary file that readers can already read.

The writer never waits for a reader, so neither a film with its index at the end nor a caller who
sends everything before reading can deadlock; what bounds it is the disk space of the room.
"""

import errno
import hashlib
import io
import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from film.errors import FilmCancelledError, FilmLimitError, SpoolFullError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SpoolRoom:
    """The disk space that all spools together may take, for calls on any thread."""

    def __init__(self, directory: Path | None, total_bytes: int) -> None:
        """Take `directory` (None: the system's temporary one), for at most `total_bytes` bytes."""
        self.directory = directory
        self.total_bytes = total_bytes
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes taken by all spools now."""
        return self._used

    def take(self, count: int) -> None:
        """Reserve `count` bytes, or raise SpoolFullError."""
        with self._lock:
            if self._used + count > self.total_bytes:
                raise SpoolFullError(
                    f"the spool is full: all films on their way in may take "
                    f"{self.total_bytes} bytes together; try again later"
                )
            self._used += count

    def give_back(self, count: int) -> None:
        """Return `count` reserved bytes."""
        with self._lock:
            self._used -= count


class Spool:
    """One film's bytes. One thread writes, any number read through `open`.

    A context manager: leaving it cancels readers that still wait and frees the room. The file has
    no name, so nothing is left behind however the process ends.
    """

    def __init__(self, room: SpoolRoom, film_bytes: int) -> None:
        """Open an empty spool in `room` for a film of at most `film_bytes` bytes.

        Raises:
            SpoolFullError: no file can be created, because the disk is full.
        """
        self._room = room
        self._film_bytes = film_bytes
        self._digest = hashlib.sha256()
        self._changed = threading.Condition()
        self._size = 0
        self._finished = False
        self._cancelled = False
        self._closed = False
        try:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - lives as long as the spool
                dir=room.directory, prefix="refilm-", buffering=0
            )
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise SpoolFullError("the disk of the spool is full; try again later") from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self._size

    @property
    def finished(self) -> bool:
        """Whether all bytes have arrived."""
        return self._finished

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises:
            FilmLimitError: the film is larger than one film may be.
            SpoolFullError: the room or the disk is full. Nothing more can be written then.
            FilmCancelledError: the spool was cancelled or closed.
        """
        count = memoryview(data).nbytes
        with self._changed:
            if self._cancelled:
                raise FilmCancelledError("reading the film was cancelled")
            if self._finished:
                raise ValueError("bytes after the end of the film")
        if self._size + count > self._film_bytes:
            raise FilmLimitError(f"the film is larger than {self._film_bytes} bytes")
        self._room.take(count)
        try:
            self._append(memoryview(data).cast("B"))
        except BaseException as error:
            self._room.give_back(count)
            if isinstance(error, OSError) and error.errno in _NO_SPACE:
                raise SpoolFullError("the disk of the spool is full; try again later") from None
            raise
        self._digest.update(data)
        with self._changed:
            self._size += count
            self._changed.notify_all()

    def _append(self, data: memoryview) -> None:
        position = self._size
        while data:
            written = os.pwrite(self._file.fileno(), data, position)
            position += written
            data = data[written:]

    def finish(self) -> None:
        """Say that all bytes have arrived."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Make every read, waiting or to come, raise FilmCancelledError. Any thread may call it."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def close(self) -> None:
        """Cancel readers and free the room; a reader that is still open keeps only its own file."""
        self.cancel()
        if not self._closed:
            self._closed = True
            self._file.close()
            self._room.give_back(self._size)

    def digest(self) -> str:
        """Return "sha256:" and 64 hexadecimal digits over the bytes that have arrived."""
        return f"sha256:{self._digest.hexdigest()}"

    def open(self) -> "SpoolReader":
        """Open a reader with a position of its own, at the start.

        Raises:
            FilmCancelledError: the spool was cancelled or closed.
        """
        with self._changed:
            if self._cancelled:
                raise FilmCancelledError("reading the film was cancelled")
            return SpoolReader(self, os.dup(self._file.fileno()))

    def wait(self, position: int) -> int:
        """Wait until a byte lies at `position`, and return how many lie from there on.

        0 means that the film has all arrived and ends at or before `position`.

        Raises:
            FilmCancelledError: the spool was cancelled.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._cancelled or self._finished or position < self._size
            )
            if self._cancelled:
                raise FilmCancelledError("reading the film was cancelled")
            return max(0, self._size - position)

    def wait_finished(self) -> int:
        """Wait until all bytes have arrived, and return how many.

        Raises:
            FilmCancelledError: the spool was cancelled.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or self._finished)
            if self._cancelled:
                raise FilmCancelledError("reading the film was cancelled")
            return self._size


class SpoolReader(io.RawIOBase):
    """A binary file over a spool: reads what has arrived, waits for what has not.

    A read returns fewer bytes than asked for where fewer have arrived, and none only at the film's
    end. Reading, even of nothing, raises FilmCancelledError once the spool is cancelled.
    """

    def __init__(self, spool: Spool, descriptor: int) -> None:
        super().__init__()
        self._spool = spool
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True: everything that has arrived stays."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes, waiting for the first; without a size, all up to the end."""
        if size < 0:
            return self.readall()
        available = self._spool.wait(self._position if size else -1)
        data = os.pread(self._descriptor, min(size, available), self._position)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Wait for all bytes, and return those from here to the end."""
        size = self._spool.wait_finished()
        return self._read_exactly(max(0, size - self._position))

    def _read_exactly(self, size: int) -> bytes:
        parts = []
        while size > 0:
            part = self.read(size)
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move; from the end only once all bytes have arrived, which it waits for."""
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self._spool.wait_finished()
        elif whence != io.SEEK_SET:
            raise ValueError(f"unknown whence {whence}")
        if offset < 0:
            raise ValueError(f"negative position {offset}")
        self._position = offset
        return offset

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def close(self) -> None:
        """Close this reader's file; safe to call twice."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
