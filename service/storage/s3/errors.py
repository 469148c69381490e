"""What the errors of an S3 server mean: whether to ask again, and what the caller is told."""

import ssl
from enum import Enum, auto
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError
from urllib3.exceptions import SSLError as PoolSSLError

FAILURES = (MinioException, HTTPError, OSError, ParseError, ValueError)
"""Every exception by which the client says that a request failed, or the answer is not S3's."""

_FULL = frozenset({"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded"})
_FULL_STATUS = 507
TRANSIENT_CODES = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "OperationAborted",
        # Two conditional writes at once, of which neither was decided.
        "ConditionalRequestConflict",
    }
)
_TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
MISSING_CODES = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchUpload"})


class Fault(Enum):
    """What a failed request comes to."""

    MISSING = auto()
    """There is no such object or upload."""
    EXISTS = auto()
    """There is one, and there should be none."""
    BEYOND_END = auto()
    """The range begins after the object's end."""
    TRANSIENT = auto()
    """The server, or the way there, failed: the next try may succeed."""
    FULL = auto()
    """The server has no room."""
    REFUSED = auto()
    """Keys, bucket, certificate or address are wrong: no try will succeed."""


def fault_of(error: Exception) -> Fault:
    """Return what one of `FAILURES` comes to."""
    code, status = error_code(error), _status(error)
    if code in MISSING_CODES:
        return Fault.MISSING
    if code == "PreconditionFailed" or status == 412:
        return Fault.EXISTS
    if code == "InvalidRange" or status == 416:
        return Fault.BEYOND_END
    if code in _FULL or status == _FULL_STATUS:
        return Fault.FULL
    if code in TRANSIENT_CODES or status in _TRANSIENT_STATUS:
        return Fault.TRANSIENT
    if isinstance(error, MinioException | ValueError) or _is_untrusted(error):
        return Fault.REFUSED
    # Connections that fail or hang, and answers that were cut.
    return Fault.TRANSIENT


def error_code(error: Exception) -> str:
    """Return the S3 code of an error ("NoSuchBucket"), "" where it has none."""
    return (error.code or "") if isinstance(error, S3Error) else ""


def description(error: Exception) -> str:
    """Return what the operator's log may hold of an error: neither keys nor signatures."""
    if isinstance(error, S3Error):
        return f"{error.code}: {error.message} (HTTP {error.response.status})"
    if isinstance(error, MinioException):
        status = _status(error)
        return f"no answer of S3 (HTTP {status})" if status else str(error)
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
