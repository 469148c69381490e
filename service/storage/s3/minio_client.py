"""Requests to one bucket: pooled connections, timeouts, retries with backoff.

The `minio` client's own retries are off: they would hide from `S3Store` that a failed write may
have succeeded.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import certifi
import structlog
import urllib3
from minio import Minio

from service import metrics
from service.errors import ServiceError
from service.retry import request_backoff
from service.storage.errors import full, refused, unavailable
from service.storage.s3.errors import FAILURES, S3ErrorKind, description, error_kind

T = TypeVar("T")

log = structlog.get_logger(__name__)

_SHORT_TIMEOUT = urllib3.Timeout(connect=3.0, read=8.0)
# Sending a body counts towards the connect timeout, and a server joins the parts of a large object
# before it responds.
_LONG_TIMEOUT = urllib3.Timeout(connect=30.0, read=60.0)


@dataclass(frozen=True, slots=True)
class S3Access:
    """Address and credentials of a bucket."""

    endpoint: str
    """http:// or https://, host and port."""
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = "us-east-1"
    path_style: bool = True
    """Whether URLs have the bucket in the path; otherwise in the host name."""
    create_bucket: bool = True
    ca_file: Path | None = None
    """CA certificates, PEM; None: those of SSL_CERT_FILE, or of certifi."""
    public_endpoint: str = ""
    """The endpoint for presigned URLs; empty: `endpoint`."""
    connections: int = 32
    """Size of the connection pool; as many as threads that send requests."""


class S3Client:
    """Sends requests; thread-safe."""

    def __init__(self, access: S3Access) -> None:
        self._short_timeout = _connect(access, access.endpoint, _SHORT_TIMEOUT)
        self._long_timeout = _connect(access, access.endpoint, _LONG_TIMEOUT)
        self.signer = _connect(access, access.public_endpoint or access.endpoint, _SHORT_TIMEOUT)
        """Presigns URLs, without requests to the server."""

    def request(
        self,
        send: Callable[[Minio], T],
        *,
        long_timeout: bool = False,
        fallbacks: Mapping[S3ErrorKind, Callable[[bool], T]] | None = None,
    ) -> T:
        """Send a request with retries, and return its result.

        Args:
            send: sends the request; may be called several times, so it must be idempotent.
            long_timeout: use long timeouts, for requests that transfer or move much data.
            fallbacks: results for kinds of errors that are valid answers. Called with whether an
                earlier attempt failed, which may have succeeded on the server all the same.

        Raises:
            UnavailableError: STORE_UNAVAILABLE after the last attempt, STORE_REFUSED at once.
            OverloadedError: STORE_FULL, at once.
        """
        client = self._long_timeout if long_timeout else self._short_timeout
        pauses = request_backoff()
        tried = 0
        while True:
            try:
                return send(client)
            except FAILURES as error:
                tried += 1
                kind = error_kind(error)
                if kind is S3ErrorKind.TRANSIENT:
                    pause = next(pauses, None)
                    if pause is not None:
                        metrics.STORE_RETRIES.inc()
                        time.sleep(pause)
                        continue
                elif fallbacks is not None and kind in fallbacks:
                    return fallbacks[kind](tried > 1)
                raise _given_up(error, kind, tried) from None


def _connect(access: S3Access, endpoint: str, timeout: urllib3.Timeout) -> Minio:
    scheme, _, host = endpoint.partition("://")
    ca_file = access.ca_file or os.environ.get("SSL_CERT_FILE") or certifi.where()
    pool = urllib3.PoolManager(
        maxsize=access.connections,
        timeout=timeout,
        retries=False,
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(ca_file),
    )
    client = Minio(
        host,
        access_key=access.access_key,
        secret_key=access.secret_key,
        session_token=access.session_token,
        secure=scheme == "https",
        # Without a region the client would request it from the server, even at the public endpoint.
        region=access.region,
        http_client=pool,
    )
    if access.path_style:
        client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    else:
        client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    return client


def _given_up(error: Exception, kind: S3ErrorKind, tried: int) -> ServiceError:
    if kind is S3ErrorKind.TRANSIENT:
        log.warning("the S3 server does not answer", error=description(error), attempts=tried)
        return unavailable()
    if kind is S3ErrorKind.FULL:
        log.warning("the S3 server is full", error=description(error))
        return full()
    log.error(
        "the S3 server refuses access: check REFILM_S3_ENDPOINT, the bucket, the region, the keys "
        "and the certificates",
        error=description(error),
    )
    return refused()
