"""Objects written in parts: begun, sent part by part, completed, or forgotten.

Until it is completed nothing of such a write is to be seen under its key. Its parts take room all
the same, until they are forgotten.
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
from service.storage.s3.errors import Fault
from service.storage.s3.minio_client import S3Client

T = TypeVar("T")

PART_BYTES = 16 * 2**20
"""A file goes up in parts of this size: so much memory a `put` takes."""

MAX_PARTS = 10_000

MARK = "x-amz-meta-refilm-write"
"""The metadata that says which call wrote an object; see `service.storage.s3.store`."""


class S3Multipart:
    """Writes in parts to one bucket."""

    def __init__(self, client: S3Client, bucket: str, mark_of: Callable[[str], str | None]) -> None:
        """Take the connections, the bucket, and what reads the mark of the object at a key."""
        self._client = client
        self._bucket = bucket
        self._mark_of = mark_of

    def send(self, key: str, parts: Iterable[bytes]) -> None:
        """Write an object of these bytes, joined in order."""

        def upload(number: int, upload_id: str, part: bytes) -> str:
            return self._client.request(
                lambda client: client._upload_part(
                    self._bucket, key, part, None, upload_id, number
                ),
                patient=True,
            )

        self._in_parts(key, parts, upload)

    def compose(self, key: str, parts: Sequence[str]) -> None:
        """Write an object of others' bytes, joined in order, at most `MAX_PARTS`."""
        if not 0 < len(parts) <= MAX_PARTS:
            raise ValueError(f"an object cannot be made of {len(parts)} others")

        def missing(part: str, doubtful: bool) -> str:
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
                send, patient=True, instead={Fault.MISSING: partial(missing, part)}
            )

        self._in_parts(key, parts, copy)

    def abandoned(self, older_than: timedelta) -> Iterator[str]:
        """Yield the uploads in parts that were begun before that and never completed."""
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
        """Free the parts of such uploads."""
        for abandoned in keys:
            key, _, upload_id = abandoned.partition("?")
            check_key(key)
            if not upload_id:
                raise ValueError(f"not an abandoned write: {abandoned!r}")
            self._abort(key, upload_id)

    def _in_parts(
        self, key: str, parts: Iterable[T], send_part: Callable[[int, str, T], str]
    ) -> None:
        """Write one object by sending its parts, each with its number, for an etag."""
        mark = uuid.uuid4().hex
        upload_id = self._client.request(
            lambda client: client._create_multipart_upload(self._bucket, key, {MARK: mark})
        )

        def complete(client: Minio) -> None:
            result = client._complete_multipart_upload(self._bucket, key, upload_id, sent)
            if result.object_name is None:
                raise _late_failure()

        def gone(doubtful: bool) -> None:
            # Either an earlier try completed the upload, or somebody swept it away.
            if not doubtful or self._mark_of(key) != mark:
                raise unavailable()

        try:
            sent = [
                Part(number, send_part(number, upload_id, part))
                for number, part in enumerate(parts, 1)
            ]
            self._client.request(complete, patient=True, instead={Fault.MISSING: gone})
        except BaseException:
            # Else its parts would take room until the next sweep.
            with suppress(ServiceError):
                self._abort(key, upload_id)
            raise

    def _abort(self, key: str, upload_id: str) -> None:
        self._client.request(
            lambda client: client._abort_multipart_upload(self._bucket, key, upload_id),
            instead={Fault.MISSING: lambda _: None},
        )


def _late_failure() -> ServerError:
    """Return the error of a request that failed after the server had begun to answer "200 OK"."""
    return ServerError("failed after its answer had begun", 500)
