"""What the library needs of an object store: the interface that S3 and a folder both serve.

Everything here blocks and is safe to call from any thread; coroutines go through
`service.storage.threads`. A store that cannot be reached raises `UnavailableError` (reason
STORE_UNAVAILABLE, with a retry delay) after a bounded number of tries; one without room raises
`OverloadedError` (reason STORE_FULL).
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import BinaryIO, Protocol

PIECE_BYTES = 2**20
"""`ObjectStore.read` yields at most this many bytes at a time."""


class ObjectNotFoundError(LookupError):
    """There is no object under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class PresigningUnsupportedError(Exception):
    """This store has no URLs: it is a folder."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object, as the store lists it."""

    key: str
    size: int
    """Bytes."""
    modified: datetime
    """When it was written, by the store's clock; aware, UTC."""


class ObjectStore(Protocol):
    """Objects by key.

    A key is names joined by "/", of letters, digits, "-", "_", "~" and ".", none of which begins
    with "."; at most 900 bytes, and 255 a name. No key is the folder of another.

    An object is visible whole or not at all, and safely kept once the call that wrote it returns.
    """

    def prepare(self) -> None:
        """Make the bucket or folder where it is missing and wanted."""

    def check(self) -> None:
        """Raise UnavailableError unless the store answers."""

    def put(self, key: str, data: bytes | BinaryIO, size: int | None = None) -> None:
        """Write an object; one that is there is replaced.

        Args:
            key: its name.
            data: its bytes, or an open file to read them from, from where it stands.
            size: of a file, how many bytes to read; None: all that follow.
        """

    def create(self, key: str, data: bytes) -> bool:
        """Write a small object unless there is one; return whether this call wrote it.

        Of any number of callers at the same time, on any number of machines, one gets True.
        """

    def get(self, key: str) -> bytes:
        """Return a small object's bytes; raises ObjectNotFoundError."""

    def read(
        self, key: str, start: int = 0, size: int | None = None
    ) -> Generator[bytes, None, None]:
        """Yield an object's bytes from `start` on, at most `size`; raises ObjectNotFoundError.

        Nothing is asked, and nothing raised, before the first piece is. A generator that is not
        exhausted must be closed.
        """

    def info(self, key: str) -> ObjectInfo:
        """Return what is known of an object; raises ObjectNotFoundError."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects whose keys begin with `prefix`, those after the key `after`, by key.

        Asks the store page by page: memory does not grow with their number.
        """

    def folders(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the names of the folders directly below `prefix` (which ends with "/").

        In the order of the keys in them ("a-b" before "a", for "-" comes before "/"), those after
        the name `after` in that order. Page by page as well.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over. Streams through any number."""

    def compose(self, key: str, parts: Sequence[str]) -> None:
        """Write an object of others' bytes, joined in order, without moving them through here.

        All parts but the last have at least 5 MiB (S3's rule). Raises ObjectNotFoundError.
        """

    def presigned_get(self, key: str, time_to_live: timedelta, file_name: str) -> str:
        """Return a URL that serves an object; raises PresigningUnsupportedError."""

    def presigned_put(self, key: str, time_to_live: timedelta) -> str:
        """Return a URL that takes an object by PUT; raises PresigningUnsupportedError."""

    def abandoned(self, older_than: timedelta) -> Iterator[str]:
        """Yield the keys of writes that were begun before that, and never finished or seen."""

    def forget_abandoned(self, keys: Iterable[str]) -> None:
        """Free what such writes occupy."""


def is_there(store: ObjectStore, key: str) -> bool:
    """Say whether there is an object under a key."""
    try:
        store.info(key)
    except ObjectNotFoundError:
        return False
    return True


def delete_below(store: ObjectStore, prefix: str) -> None:
    """Remove all objects whose keys begin with `prefix`."""
    store.delete(info.key for info in store.list(prefix))


def pieces(
    data: bytes | BinaryIO, size: int | None = None, piece_bytes: int = PIECE_BYTES
) -> Iterator[bytes]:
    """Yield the bytes of `data`, all pieces but the last of exactly `piece_bytes`.

    Of a file at most `size` bytes from where it stands, None for all. Raises EOFError where a file
    ends before `size`.
    """
    if isinstance(data, bytes):
        if size is not None and size != len(data):
            raise ValueError(f"{len(data)} bytes, and {size} announced")
        for start in range(0, len(data), piece_bytes):
            yield data[start : start + piece_bytes]
        return
    left = size
    while left is None or left > 0:
        wanted = piece_bytes if left is None else min(left, piece_bytes)
        piece = _read(data, wanted)
        if left is not None:
            left -= len(piece)
        if piece:
            yield piece
        if len(piece) < wanted:
            if left:
                raise EOFError(f"the file ended {left} bytes before its announced size of {size}")
            return


def _read(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, fewer only at the file's end: raw files may give fewer at any time."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
