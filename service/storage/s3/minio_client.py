"""Requests to one bucket: over pooled connections, with time limits, and tried again if that helps.

The `minio` client's own retries are off. It repeats inside one call, where `S3Store` could not see
that a failed write may have been carried out.
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
from service.retry import request_pauses
from service.storage.errors import full, refused, unavailable
from service.storage.s3.errors import FAILURES, Fault, description, fault_of

T = TypeVar("T")

log = structlog.get_logger(__name__)

_QUICK = urllib3.Timeout(connect=3.0, read=8.0)
# While a body is sent, all of it must leave within the limit for connecting; and a server joins the
# parts of a large object before it answers.
_PATIENT = urllib3.Timeout(connect=30.0, read=60.0)


@dataclass(frozen=True, slots=True)
class S3Access:
    """Where a bucket is and how to get in."""

    endpoint: str
    """http:// or https://, host and port."""
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = "us-east-1"
    path_style: bool = True
    """The bucket in the path of URLs; otherwise before the host's name."""
    create_bucket: bool = True
    ca_file: Path | None = None
    """Certificates to trust, PEM; None: those of the system's SSL_CERT_FILE, or of certifi."""
    public_endpoint: str = ""
    """Where callers reach the server; empty: at `endpoint`. Signed URLs point there."""
    connections: int = 32
    """So many are kept open for further requests: as many as there are threads that send them."""


class S3Client:
    """Makes requests; safe to use from any thread."""

    def __init__(self, access: S3Access) -> None:
        self._quick = _connect(access, access.endpoint, _QUICK)
        self._patient = _connect(access, access.endpoint, _PATIENT)
        self.signer = _connect(access, access.public_endpoint or access.endpoint, _QUICK)
        """Signs URLs that callers use; asks nothing of the server."""

    def request(
        self,
        send: Callable[[Minio], T],
        *,
        patient: bool = False,
        instead: Mapping[Fault, Callable[[bool], T]] | None = None,
    ) -> T:
        """Send a request, again after a failure of the server, and return its answer.

        Args:
            send: makes the request; is called several times, so it must bear repetition.
            patient: whether it carries much data, or has the server move much.
            instead: what to return for faults that are answers too. It is told whether an earlier
                try failed, which leaves open whether that one was carried out.

        Raises:
            UnavailableError: STORE_UNAVAILABLE after the last try, STORE_REFUSED at once.
            OverloadedError: STORE_FULL, at once.
        """
        client = self._patient if patient else self._quick
        pauses = request_pauses()
        tried = 0
        while True:
            try:
                return send(client)
            except FAILURES as error:
                tried += 1
                fault = fault_of(error)
                if fault is Fault.TRANSIENT:
                    pause = next(pauses, None)
                    if pause is not None:
                        metrics.STORE_RETRIES.inc()
                        time.sleep(pause)
                        continue
                elif instead is not None and fault in instead:
                    return instead[fault](tried > 1)
                raise _given_up(error, fault, tried) from None


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
        # Without a region the client would ask the server for it, at a caller's address even.
        region=access.region,
        http_client=pool,
    )
    if access.path_style:
        client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    else:
        client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    return client


def _given_up(error: Exception, fault: Fault, tried: int) -> ServiceError:
    if fault is Fault.TRANSIENT:
        log.warning("the S3 server does not answer", error=description(error), tries=tried)
        return unavailable()
    if fault is Fault.FULL:
        log.warning("the S3 server is full", error=description(error))
        return full()
    log.error(
        "the S3 server refuses the service: look at REFILM_S3_ENDPOINT, the bucket, the region, "
        "the keys and the certificates",
        error=description(error),
    )
    return refused()
