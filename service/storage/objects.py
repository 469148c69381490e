"""The interface of the object store, implemented by S3 and by a folder.

All methods block and are thread-safe; coroutines call them through `service.storage.threads`. A
store that cannot be reached raises `UnavailableError` (reason STORE_UNAVAILABLE, with a retry
delay) after a bounded number of attempts; a full one raises `OverloadedError` (reason STORE_FULL).
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import BinaryIO, Protocol

CHUNK_BYTES = 2**20
"""`ObjectStore.read` yields at most this many bytes at a time."""


class ObjectNotFoundError(LookupError):
    """There is no object with this key."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class PresigningUnsupportedError(Exception):
    """This store cannot presign URLs: it is a folder."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object's metadata."""

    key: str
    size: int
    """Bytes."""
    modified: datetime
    """When it was written, by the store's clock; aware, UTC."""


class ObjectStore(Protocol):
    """Objects by key.

    A key is names joined by "/", of letters, digits, "-", "_", "~" and ".", none of which begins
    with "."; at most 900 bytes, and 255 a name. No key may be the folder of another.

    Writes are atomic and durable.
    """

    def prepare(self) -> None:
        """Create the bucket or folder if it is missing and should be created."""

    def check(self) -> None:
        """Raise UnavailableError unless the store answers."""

    def put(self, key: str, data: bytes | BinaryIO, size: int | None = None) -> None:
        """Write or replace an object.

        Args:
            key: its name.
            data: its bytes, or an open file, read from its current position.
            size: how many bytes of a file to read; None: all the rest.
        """

    def create(self, key: str, data: bytes) -> bool:
        """Write a small object unless it exists; return whether this call wrote it.

        Of any number of concurrent callers, on any number of machines, exactly one gets True.
        """

    def get(self, key: str) -> bytes:
        """Return a small object's bytes; raises ObjectNotFoundError."""

    def read(
        self, key: str, start: int = 0, size: int | None = None
    ) -> Generator[bytes, None, None]:
        """Yield an object's bytes from `start` on, at most `size`; raises ObjectNotFoundError.

        Lazy: the request is sent, and errors are raised, with the first chunk. A generator that is
        not exhausted must be closed.
        """

    def info(self, key: str) -> ObjectInfo:
        """Return an object's metadata; raises ObjectNotFoundError."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects with the prefix, after the key `after`, in the order of keys.

        Fetches page by page: memory does not grow with their number.
        """

    def folders(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the names of the folders directly below `prefix` (which ends with "/").

        In the order of their keys ("a-b" before "a", since "-" sorts before "/"), after the name
        `after` in that order; page by page.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored. Streams through any number."""

    def compose(self, key: str, parts: Sequence[str]) -> None:
        """Write the concatenation of other objects, on the server's side.

        All parts but the last must have at least 5 MiB (S3's rule). Raises ObjectNotFoundError.
        """

    def presigned_get(self, key: str, time_to_live: timedelta, file_name: str) -> str:
        """Return a URL that serves an object; raises PresigningUnsupportedError."""

    def presigned_put(self, key: str, time_to_live: timedelta) -> str:
        """Return a URL that takes an object by PUT; raises PresigningUnsupportedError."""

    def abandoned(self, older_than: timedelta) -> Iterator[str]:
        """Yield the keys of unfinished writes that are older than that."""

    def delete_abandoned(self, keys: Iterable[str]) -> None:
        """Delete unfinished writes."""


def is_there(store: ObjectStore, key: str) -> bool:
    """Return whether there is an object under a key."""
    try:
        store.info(key)
    except ObjectNotFoundError:
        return False
    return True


def delete_below(store: ObjectStore, prefix: str) -> None:
    """Remove all objects whose keys begin with `prefix`."""
    store.delete(info.key for info in store.list(prefix))


def chunks(
    data: bytes | BinaryIO, size: int | None = None, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[bytes]:
    """Yield the bytes of `data`, all chunks but the last of exactly `chunk_bytes`.

    Of a file, at most `size` bytes from its position, None for all. Raises EOFError if the file
    ends before `size`.
    """
    if isinstance(data, bytes):
        if size is not None and size != len(data):
            raise ValueError(f"{len(data)} bytes, and {size} announced")
        for start in range(0, len(data), chunk_bytes):
            yield data[start : start + chunk_bytes]
        return
    left = size
    while left is None or left > 0:
        wanted = chunk_bytes if left is None else min(left, chunk_bytes)
        chunk = _read(data, wanted)
        if left is not None:
            left -= len(chunk)
        if chunk:
            yield chunk
        if len(chunk) < wanted:
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
