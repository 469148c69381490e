"""Objects in a bucket of an S3 server: MinIO, Ceph, AWS. Only standard S3, no server's extensions.

A write may succeed although its response is lost. `put`, `delete` and `compose` are idempotent. A
retried `create` may find an object of this call or of another one, so each call stores a random
write id in the object's metadata and checks it. Comparing the bytes would not do: two racing
callers may write the same ones.
"""

import itertools
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import UTC, timedelta
from functools import partial
from typing import BinaryIO, NoReturn
from urllib.parse import quote

import structlog
from minio import Minio
from minio.datatypes import Object, parse_list_objects
from minio.deleteobjects import DeleteObject
from minio.error import S3Error, ServerError
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import ProtocolError

from service.storage.errors import refused, unavailable
from service.storage.keys import check_folder, check_key, check_prefix
from service.storage.objects import CHUNK_BYTES, ObjectInfo, ObjectNotFoundError, chunks
from service.storage.s3.errors import (
    FAILURES,
    MISSING_CODES,
    TRANSIENT_CODES,
    S3ErrorKind,
    description,
)
from service.storage.s3.minio_client import S3Access, S3Client
from service.storage.s3.multipart import PART_BYTES, WRITE_ID_HEADER, S3Multipart

log = structlog.get_logger(__name__)

_SINGLE_PUT_BYTES = 64 * 2**20
_PAGE = 1000
_PARTIAL_CONTENT = 206
_CUTS_WITHOUT_PROGRESS = 3
"""How often in a row a cut read is resumed without any progress."""
_FEW = 100
"""So many objects a server deletes within the short timeout."""

_AFTER_FOLDER = chr(ord("/") + 1)
"""Folder name plus this sorts directly after all keys in the folder."""


class S3Store:
    """An `ObjectStore` in a bucket."""

    def __init__(self, access: S3Access) -> None:
        self._access = access
        self._bucket = access.bucket
        self._client = S3Client(access)
        self._multipart = S3Multipart(self._client, access.bucket, self._write_id)

    def prepare(self) -> None:
        """Create the bucket if it is missing and should be created; raises UnavailableError."""
        if not self._client.request(self._bucket_exists):
            if not self._access.create_bucket:
                log.error(
                    "the bucket is missing: create it, or set REFILM_S3_CREATE_BUCKET=true",
                    bucket=self._bucket,
                )
                raise refused()
            self._client.request(self._make_bucket, long_timeout=True)
        self._check_conditional_writes()

    def check(self) -> None:
        """Raise UnavailableError unless the server answers and the bucket exists."""
        # A listing, because a gateway may answer for a bucket from its cache.
        self._page("check/", "", recursive=True)

    def put(self, key: str, data: bytes | BinaryIO, size: int | None = None) -> None:
        """Write an object; see `ObjectStore`. Raises EOFError if a file has too few bytes."""
        check_key(key)
        at_once = _SINGLE_PUT_BYTES if isinstance(data, bytes) else PART_BYTES
        parts = chunks(data, size, at_once)
        first, second = next(parts, b""), next(parts, None)
        if second is None:
            self._client.request(
                lambda client: client._put_object(self._bucket, key, first),
                long_timeout=len(first) > CHUNK_BYTES,
            )
            return

        self._multipart.send(key, itertools.chain([first, second], parts))

    def create(self, key: str, data: bytes) -> bool:
        """Write a small object unless it exists; see `ObjectStore`.

        After an UnavailableError it may or may not have been written.
        """
        check_key(key)
        write_id = uuid.uuid4().hex

        def send(client: Minio) -> bool:
            client._put_object(
                self._bucket, key, data, {"If-None-Match": "*", WRITE_ID_HEADER: write_id}
            )
            return True

        return self._client.request(
            send,
            fallbacks={
                S3ErrorKind.EXISTS: lambda retried: retried and self._write_id(key) == write_id
            },
        )

    def get(self, key: str) -> bytes:
        """Return a small object's bytes; raises ObjectNotFoundError."""
        return b"".join(self.read(key))

    def read(
        self, key: str, start: int = 0, size: int | None = None
    ) -> Generator[bytes, None, None]:
        """Yield an object's bytes from `start` on; see `ObjectStore`.

        A cut read is resumed by range, only if the object is still the same (etag).
        """
        check_key(key)
        position, end = start, None if size is None else start + size
        if end is not None and end <= start:
            self.info(key)
            return
        etag: str | None = None
        fruitless = 0
        while fruitless <= _CUTS_WITHOUT_PROGRESS:
            response = self._open(key, position, end)
            if response is None:
                return
            found = response.headers.get("etag")
            if etag and found and found != etag:
                response.close()
                log.warning("an object was replaced while it was read, after a cut")
                raise unavailable()
            etag = etag or found
            fruitless += 1
            try:
                while chunk := response.read(CHUNK_BYTES):
                    fruitless = 0
                    position += len(chunk)
                    yield chunk
                return
            except FAILURES as error:
                log.info("a read was cut", error=description(error))
            finally:
                # A connection with unread bytes cannot be reused.
                response.close()
                response.release_conn()
        raise unavailable()

    def info(self, key: str) -> ObjectInfo:
        """Return an object's metadata; raises ObjectNotFoundError."""
        check_key(key)
        found = self._stat(key)
        if found is None:
            # A response without a body does not say whether the object or the bucket is missing.
            self.check()
            raise ObjectNotFoundError(key)
        return _info(found)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects below `prefix`, by key; see `ObjectStore`."""
        check_prefix(prefix)
        more = True
        while more:
            page, more = self._page(prefix, after, recursive=True)
            for found in page:
                after = _name(found)
                yield _info(found)

    def folders(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the names of the folders directly below `prefix`; see `ObjectStore`."""
        check_folder(prefix)
        start = f"{prefix}{after}{_AFTER_FOLDER}" if after else ""
        more = True
        while more:
            page, more = self._page(prefix, start, recursive=False)
            for found in page:
                start = _name(found)
                if found.is_dir:
                    yield start[len(prefix) : -1]
                    start = start[:-1] + _AFTER_FOLDER

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; see `ObjectStore`."""
        remaining = iter(keys)
        while page := list(itertools.islice(remaining, _PAGE)):
            for key in page:
                check_key(key)
            self._client.request(partial(self._remove, page), long_timeout=len(page) > _FEW)

    def compose(self, key: str, parts: Sequence[str]) -> None:
        """Write the concatenation of at most 10,000 other objects."""
        for name in (key, *parts):
            check_key(name)
        self._multipart.compose(key, parts)

    def presigned_get(self, key: str, time_to_live: timedelta, file_name: str) -> str:
        """Return a URL that serves an object as a download with that file name."""
        check_key(key)
        return self._client.signer.get_presigned_url(
            "GET",
            self._bucket,
            key,
            expires=time_to_live,
            response_headers={"response-content-disposition": _attachment(file_name)},
        )

    def presigned_put(self, key: str, time_to_live: timedelta) -> str:
        """Return a URL that takes an object by PUT."""
        check_key(key)
        return self._client.signer.get_presigned_url("PUT", self._bucket, key, expires=time_to_live)

    def abandoned(self, older_than: timedelta) -> Iterator[str]:
        """Yield unfinished uploads that are older than that."""
        return self._multipart.abandoned(older_than)

    def delete_abandoned(self, keys: Iterable[str]) -> None:
        """Abort unfinished uploads."""
        self._multipart.forget(keys)

    def _open(self, key: str, start: int, end: int | None) -> BaseHTTPResponse | None:
        """Request an object's bytes; None if it ends before `start`."""
        wanted = {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        whole = start == 0 and end is None

        def send(client: Minio) -> BaseHTTPResponse | None:
            response = client.get_object(
                self._bucket, key, request_headers=None if whole else dict(wanted)
            )
            if "content-length" not in response.headers:
                # Without a length the end cannot be told from a cut.
                response.close()
                raise ProtocolError("a response without a length")
            if not whole and response.status != _PARTIAL_CONTENT:
                response.close()
                raise ServerError("the server ignores ranges", response.status)
            return response

        return self._client.request(
            send,
            fallbacks={
                S3ErrorKind.MISSING: partial(_not_found, key),
                S3ErrorKind.BEYOND_END: lambda _: None,
            },
        )

    def _stat(self, key: str) -> Object | None:
        return self._client.request(
            lambda client: client.stat_object(self._bucket, key),
            fallbacks={S3ErrorKind.MISSING: lambda _: None},
        )

    def _write_id(self, key: str) -> str | None:
        """Return the write id of the call that wrote an object."""
        found = self._stat(key)
        return None if found is None else (found.metadata or {}).get(WRITE_ID_HEADER)

    def _page(self, prefix: str, start: str, *, recursive: bool) -> tuple[Sequence[Object], bool]:
        """Return a page of entries, by name, and whether there are more."""
        query = {
            "list-type": "2",
            "max-keys": str(_PAGE),
            "prefix": prefix,
            "delimiter": "" if recursive else "/",
            **({"start-after": start} if start else {}),
        }

        def send(client: Minio) -> tuple[Sequence[Object], bool]:
            response = client._execute("GET", self._bucket, query_params=dict(query))
            found, more, _, _ = parse_list_objects(response)
            return sorted(found, key=_name), more

        return self._client.request(send)

    def _remove(self, keys: Sequence[str], client: Minio) -> None:
        wanted = [DeleteObject(key) for key in keys]
        for error in client._delete_objects(self._bucket, wanted, quiet=True).error_list:
            if error.code not in MISSING_CODES:
                status = 503 if error.code in TRANSIENT_CODES else 403
                raise ServerError(f"{error.code}: {error.message}", status)

    def _bucket_exists(self, client: Minio) -> bool:
        return client.bucket_exists(self._bucket)

    def _make_bucket(self, client: Minio) -> None:
        try:
            client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def _check_conditional_writes(self) -> None:
        """Raise UnavailableError if the server ignores conditional writes."""
        key = f"probe/{uuid.uuid4().hex}"
        try:
            self.create(key, b"")
            if not self.create(key, b""):
                return
        finally:
            self.delete([key])
        log.error("the S3 server ignores If-None-Match on PUT: the library is not safe on it")
        raise refused()


def _not_found(key: str, retried: bool) -> NoReturn:
    raise ObjectNotFoundError(key)


def _name(found: Object) -> str:
    return found.object_name or ""


def _info(found: Object) -> ObjectInfo:
    if found.last_modified is None:
        raise ValueError("an object without a modification time")
    return ObjectInfo(_name(found), found.size or 0, found.last_modified.astimezone(UTC))


def _attachment(file_name: str) -> str:
    plain = "".join(
        c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in file_name
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"
