"""The spool: a growing temporary file for an arriving film, which can be read meanwhile.

The writer never waits for a reader, so neither a film with its index at the end nor a caller who
sends everything before reading can deadlock; only the disk space of the room limits it.
"""

import errno
import hashlib
import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from film.errors import FilmLimitError, SpoolFullError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SpoolRoom:
    """The disk quota of all spools together; thread-safe."""

    def __init__(self, directory: Path | None, total_bytes: int) -> None:
        """Use `directory` (None: the system's temporary one) for at most `total_bytes` bytes."""
        self.directory = directory
        self.total_bytes = total_bytes
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes used by all spools now."""
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
    """One film's bytes. One thread writes at a time; a film's process reads.

    A context manager: leaving it frees the room. The file has no name, so nothing is left behind
    however this process ends.
    """

    def __init__(self, room: SpoolRoom, film_bytes: int) -> None:
        """Open an empty spool in `room` for a film of at most `film_bytes` bytes.

        Raises:
            SpoolFullError: no file can be created, because the disk is full.
        """
        self._room = room
        self._film_bytes = film_bytes
        self._digest = hashlib.sha256()
        self._size = 0
        self._finished = False
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
            FilmLimitError: the film is larger than a film may be.
            SpoolFullError: the room or the disk is full. Nothing more can be written then.
            ValueError: the spool is closed, or the film has ended.
        """
        count = memoryview(data).nbytes
        if self._closed or self._finished:
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
        self._size += count

    def _append(self, data: memoryview) -> None:
        position = self._size
        while data:
            written = os.pwrite(self._file.fileno(), data, position)
            position += written
            data = data[written:]

    def finish(self) -> None:
        """Mark the film as complete."""
        self._finished = True

    def close(self) -> None:
        """Free the room; safe to call twice."""
        if not self._closed:
            self._closed = True
            self._file.close()
            self._room.give_back(self._size)

    def digest(self) -> str:
        """Return "sha256:" and 64 hexadecimal digits over the bytes that have arrived."""
        return f"sha256:{self._digest.hexdigest()}"

    def open_descriptor(self) -> int:
        """Open a read-only descriptor of the file, at its start, which its caller closes."""
        return os.open(f"/proc/self/fd/{self._file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
