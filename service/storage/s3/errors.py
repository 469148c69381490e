"""Classifies the errors of an S3 server: retryable or not, and the error for the caller."""

import ssl
from enum import Enum, auto
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError
from urllib3.exceptions import SSLError as PoolSSLError

FAILURES = (MinioException, HTTPError, OSError, ParseError, ValueError)
"""Every exception that the client raises for a failed request, or for an invalid response."""

_FULL = frozenset({"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded"})
_FULL_STATUS = 507
TRANSIENT_CODES = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "OperationAborted",
        # Two concurrent conditional writes, neither of which succeeded.
        "ConditionalRequestConflict",
    }
)
_TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
MISSING_CODES = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchUpload"})


class S3ErrorKind(Enum):
    """What a failed request means."""

    MISSING = auto()
    """There is no such object or upload."""
    EXISTS = auto()
    """The object exists, and must not."""
    BEYOND_END = auto()
    """The range begins after the object's end."""
    TRANSIENT = auto()
    """The server or the network failed: a retry may succeed."""
    FULL = auto()
    """The server is full."""
    REFUSED = auto()
    """Keys, bucket, certificate or address are wrong: retrying is useless."""


def error_kind(error: Exception) -> S3ErrorKind:
    """Classify one of `FAILURES`."""
    code, status = error_code(error), _status(error)
    if code in MISSING_CODES:
        return S3ErrorKind.MISSING
    if code == "PreconditionFailed" or status == 412:
        return S3ErrorKind.EXISTS
    if code == "InvalidRange" or status == 416:
        return S3ErrorKind.BEYOND_END
    if code in _FULL or status == _FULL_STATUS:
        return S3ErrorKind.FULL
    if code in TRANSIENT_CODES or status in _TRANSIENT_STATUS:
        return S3ErrorKind.TRANSIENT
    if isinstance(error, MinioException | ValueError) or _is_untrusted(error):
        return S3ErrorKind.REFUSED
    # Failed or hanging connections, and truncated responses.
    return S3ErrorKind.TRANSIENT


def error_code(error: Exception) -> str:
    """Return the S3 code of an error ("NoSuchBucket"), or ""."""
    return (error.code or "") if isinstance(error, S3Error) else ""


def description(error: Exception) -> str:
    """Return a description for the log, without keys or signatures."""
    if isinstance(error, S3Error):
        return f"{error.code}: {error.message} (HTTP {error.response.status})"
    if isinstance(error, MinioException):
        status = _status(error)
        return f"not an S3 response (HTTP {status})" if status else str(error)
    return f"{type(error).__name__}: {error}"


def _status(error: Exception) -> int:
    if isinstance(error, S3Error):
        return error.response.status
    if isinstance(error, ServerError):
        return error.status_code
    if isinstance(error, InvalidResponseError):
        return int(error._code)
    return 0


def _is_untrusted(error: Exception) -> bool:
    cause = error.args[0] if isinstance(error, PoolSSLError) and error.args else error
    return isinstance(cause, ssl.SSLCertVerificationError)
