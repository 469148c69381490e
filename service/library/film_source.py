"""A film's stored bytes: concatenated objects, with random access."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import accumulate
from typing import NamedTuple

from service.storage.objects import ObjectNotFoundError, ObjectStore


class Piece(NamedTuple):
    """An object that holds consecutive bytes of a film."""

    key: str
    size: int


class SourceBytes:
    """The bytes of a film. Blocking and thread-safe."""

    def __init__(
        self,
        store: ObjectStore,
        pieces: Sequence[Piece],
        missing: Callable[[], Exception],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Join a film's bytes.

        Args:
            store: the store of the objects.
            pieces: the objects, in order.
            missing: returns the error for a missing or truncated object.
            check: raises to stop reading; called repeatedly.
        """
        self._store = store
        self._pieces = pieces
        self._starts = [0, *accumulate(piece.size for piece in pieces)]
        self.size = self._starts.pop()
        """Size in bytes."""
        self._missing = missing
        self._check = check

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from an offset, fewer at the end.

        Raises the error from `missing`, and the errors of `check` and of the store.
        """
        parts: list[bytes] = []
        start, stop = offset, min(self.size, offset + length)
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
        self._check()
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
