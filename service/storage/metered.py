"""Metrics of a store's operations."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import BinaryIO, TypeVar

from service import metrics
from service.errors import ServiceError
from service.storage.objects import ObjectInfo, ObjectStore

T = TypeVar("T")


class MeteredStore:
    """Wraps an `ObjectStore` with metrics."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def prepare(self) -> None:
        """Create the bucket or folder."""
        with _measured("prepare"):
            self._store.prepare()

    def check(self) -> None:
        """Raise UnavailableError unless the store answers."""
        with _measured("check"):
            self._store.check()

    def put(self, key: str, data: bytes | BinaryIO, size: int | None = None) -> None:
        """Write an object."""
        with _measured("put"):
            self._store.put(key, data, size)

    def create(self, key: str, data: bytes) -> bool:
        """Write a small object unless it exists."""
        with _measured("create"):
            return self._store.create(key, data)

    def get(self, key: str) -> bytes:
        """Return a small object's bytes."""
        with _measured("get"):
            return self._store.get(key)

    def read(
        self, key: str, start: int = 0, size: int | None = None
    ) -> Generator[bytes, None, None]:
        """Yield an object's bytes."""
        return _measured_items("read", self._store.read(key, start, size))

    def info(self, key: str) -> ObjectInfo:
        """Return an object's metadata."""
        with _measured("info"):
            return self._store.info(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects by key."""
        return _measured_items("list", self._store.list(prefix, after=after))

    def folders(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the names of folders."""
        return _measured_items("folders", self._store.folders(prefix, after=after))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        with _measured("delete"):
            self._store.delete(keys)

    def compose(self, key: str, parts: Sequence[str]) -> None:
        """Write the concatenation of other objects."""
        with _measured("compose"):
            self._store.compose(key, parts)

    def presigned_get(self, key: str, time_to_live: timedelta, file_name: str) -> str:
        """Return a URL that serves an object."""
        return self._store.presigned_get(key, time_to_live, file_name)

    def presigned_put(self, key: str, time_to_live: timedelta) -> str:
        """Return a URL that takes an object."""
        return self._store.presigned_put(key, time_to_live)

    def abandoned(self, older_than: timedelta) -> Iterator[str]:
        """Yield unfinished writes."""
        return _measured_items("abandoned", self._store.abandoned(older_than))

    def delete_abandoned(self, keys: Iterable[str]) -> None:
        """Delete unfinished writes."""
        with _measured("delete_abandoned"):
            self._store.delete_abandoned(keys)


@contextmanager
def _measured(operation: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    except ServiceError as error:
        metrics.STORE_ERRORS.labels(operation, error.reason).inc()
        raise
    finally:
        metrics.STORE_SECONDS.labels(operation).observe(time.monotonic() - began)


def _measured_items(operation: str, items: Iterator[T]) -> Generator[T, None, None]:
    """Yield `items`, timing the store but not the consumer."""
    seconds = 0.0
    try:
        while True:
            began = time.monotonic()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                seconds += time.monotonic() - began
            yield item
    except ServiceError as error:
        metrics.STORE_ERRORS.labels(operation, error.reason).inc()
        raise
    finally:
        metrics.STORE_SECONDS.labels(operation).observe(seconds)
        close = getattr(items, "close", None)
        if close is not None:
            close()
