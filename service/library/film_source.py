"""Stored film bytes as a file that FFmpeg can read: seekable, cancellable, fetched in blocks."""

import io
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from film.errors import FilmCancelledError
from service.storage.objects import ObjectNotFoundError, ObjectStore

BLOCK_BYTES = 2 * 2**20
"""Fetched at once: a film is read forwards, so what follows is wanted next."""
_BLOCKS_KEPT = 4
"""Sound and picture may lie far apart in a film and are then read by turns, besides its index."""


class Piece(NamedTuple):
    """An object that holds consecutive bytes of a film."""

    key: str
    size: int


class SourceFile(io.RawIOBase):
    """A binary file over objects joined in order. One thread reads, any may cancel.

    Memory: four blocks of 2 MiB, and one that is fetched.
    """

    def __init__(
        self,
        store: ObjectStore,
        pieces: Sequence[Piece],
        missing: Callable[[], Exception],
        cancelled: threading.Event | None = None,
    ) -> None:
        """Open a film's bytes.

        Args:
            store: where they lie.
            pieces: the objects, in order.
            missing: what to raise where one of them is gone or shorter than it must be.
            cancelled: what cancels reads besides `cancel`.
        """
        super().__init__()
        self._store = store
        self._pieces = pieces
        self._starts = [0, *accumulate(piece.size for piece in pieces)]
        self.size = self._starts.pop()
        """Bytes."""
        self._missing = missing
        self._position = 0
        self._block = lru_cache(_BLOCKS_KEPT)(self._fetch_block)
        self._cancelled = cancelled or threading.Event()

    def cancel(self) -> None:
        """Make every read, waiting or to come, raise FilmCancelledError. Any thread may call it."""
        self._cancelled.set()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes, fewer where a block ends; without a size, all up to the end.

        Raises FilmCancelledError, even where nothing is to be read, once it is cancelled; what
        `missing` returns; and what the store raises.
        """
        self._check()
        if size < 0:
            return self.readall()
        if not size or self._position >= self.size:
            return b""
        number, offset = divmod(self._position, BLOCK_BYTES)
        data = self._block(number)[offset : offset + size]
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Return the bytes from here to the end; for small films."""
        parts = []
        while part := self.read(BLOCK_BYTES):
            parts.append(part)
        return b"".join(parts)

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Read into a buffer; return how many bytes were read."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset, also one beyond the end."""
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self.size
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
        """Free the blocks; safe to call twice."""
        self._block.cache_clear()
        super().close()

    def _fetch_block(self, number: int) -> bytes:
        return self._fetch(number * BLOCK_BYTES, min(self.size, (number + 1) * BLOCK_BYTES))

    def _fetch(self, start: int, stop: int) -> bytes:
        parts: list[bytes] = []
        place = bisect_right(self._starts, start) - 1
        while start < stop:
            key, size = self._pieces[place]
            begin = start - self._starts[place]
            count = min(size - begin, stop - start)
            parts.extend(self._pull(key, begin, count))
            start += count
            place += 1
        return b"".join(parts)

    def _pull(self, key: str, start: int, size: int) -> list[bytes]:
        parts: list[bytes] = []
        try:
            with closing(self._store.read(key, start, size)) as pieces:
                for piece in pieces:
                    self._check()
                    parts.append(piece)
        except ObjectNotFoundError:
            raise self._missing() from None
        if sum(map(len, parts)) != size:
            raise self._missing()
        return parts

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise FilmCancelledError("reading the film was cancelled")
