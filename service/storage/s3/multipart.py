"""Multipart uploads: created, sent part by part, completed or aborted.

The object is invisible until the upload is completed; its parts take space until it is aborted.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from minio import Minio
from minio.datatypes import Part
from minio.error import ServerError
from minio.helpers import DictType

from service.errors import ServiceError
from service.storage.errors import unavailable
from service.storage.keys import check_key
from service.storage.objects import ObjectNotFoundError
from service.storage.s3.errors import S3ErrorKind
from service.storage.s3.minio_client import S3Client

T = TypeVar("T")

PART_BYTES = 16 * 2**20
"""Size of a part, and the memory that a `put` needs."""

MAX_PARTS = 10_000

WRITE_ID_HEADER = "x-amz-meta-refilm-write"
"""Metadata: the write id of the call that wrote an object; see `service.storage.s3.store`."""


class S3Multipart:
    """Multipart uploads to one bucket."""

    def __init__(
        self, client: S3Client, bucket: str, write_id_of: Callable[[str], str | None]
    ) -> None:
        """Take the client, the bucket, and a function that returns an object's write id."""
        self._client = client
        self._bucket = bucket
        self._write_id_of = write_id_of

    def send(self, key: str, parts: Iterable[bytes]) -> None:
        """Write an object of these parts in order."""

        def upload(number: int, upload_id: str, part: bytes) -> str:
            return self._client.request(
                lambda client: client._upload_part(
                    self._bucket, key, part, None, upload_id, number
                ),
                long_timeout=True,
            )

        self._in_parts(key, parts, upload)

    def compose(self, key: str, parts: Sequence[str]) -> None:
        """Write the concatenation of at most `MAX_PARTS` other objects."""
        if not 0 < len(parts) <= MAX_PARTS:
            raise ValueError(f"an object cannot be made of {len(parts)} others")

        def missing(part: str, retried: bool) -> str:
            raise ObjectNotFoundError(part)

        def copy(number: int, upload_id: str, part: str) -> str:
            def send(client: Minio) -> str:
                source: DictType = {"x-amz-copy-source": f"/{self._bucket}/{part}"}
                try:
                    etag, _ = client._upload_part_copy(self._bucket, key, upload_id, number, source)
                except ValueError:
                    raise _late_failure() from None
                return etag

            return self._client.request(
                send, long_timeout=True, fallbacks={S3ErrorKind.MISSING: partial(missing, part)}
            )

        self._in_parts(key, parts, copy)

    def abandoned(self, older_than: timedelta) -> Iterator[str]:
        """Yield unfinished uploads that are older than that."""
        limit = datetime.now(UTC) - older_than
        key, upload_id = "", ""
        while True:
            found = self._client.request(
                partial(
                    Minio._list_multipart_uploads,
                    bucket_name=self._bucket,
                    key_marker=key,
                    upload_id_marker=upload_id,
                )
            )
            for upload in found.uploads:
                key, upload_id = upload.object_name, upload.upload_id or ""
                if upload.initiated_time is not None and upload.initiated_time < limit:
                    yield f"{key}?{upload_id}"
            if not found.is_truncated:
                return

    def forget(self, keys: Iterable[str]) -> None:
        """Abort unfinished uploads."""
        for abandoned in keys:
            key, _, upload_id = abandoned.partition("?")
            check_key(key)
            if not upload_id:
                raise ValueError(f"not an abandoned write: {abandoned!r}")
            self._abort(key, upload_id)

    def _in_parts(
        self, key: str, parts: Iterable[T], send_part: Callable[[int, str, T], str]
    ) -> None:
        """Write one object by sending its numbered parts, each for an etag."""
        write_id = uuid.uuid4().hex
        upload_id = self._client.request(
            lambda client: client._create_multipart_upload(
                self._bucket, key, {WRITE_ID_HEADER: write_id}
            )
        )

        def complete(client: Minio) -> None:
            result = client._complete_multipart_upload(self._bucket, key, upload_id, sent)
            if result.object_name is None:
                raise _late_failure()

        def gone(retried: bool) -> None:
            # Either an earlier attempt completed the upload, or a sweep aborted it.
            if not retried or self._write_id_of(key) != write_id:
                raise unavailable()

        try:
            sent = [
                Part(number, send_part(number, upload_id, part))
                for number, part in enumerate(parts, 1)
            ]
            self._client.request(complete, long_timeout=True, fallbacks={S3ErrorKind.MISSING: gone})
        except BaseException:
            # Without it the parts would take space until the next sweep.
            with suppress(ServiceError):
                self._abort(key, upload_id)
            raise

    def _abort(self, key: str, upload_id: str) -> None:
        self._client.request(
            lambda client: client._abort_multipart_upload(self._bucket, key, upload_id),
            fallbacks={S3ErrorKind.MISSING: lambda _: None},
        )


def _late_failure() -> ServerError:
    """Return the error for a request that failed after the server had sent "200 OK"."""
    return ServerError("failed after the response had begun", 500)
