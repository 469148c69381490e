"""Errors of uploads, for callers."""

import grpc

from service.errors import (
    ClientSideError,
    InvalidFieldError,
    NotFoundError,
    OverloadedError,
    Resource,
)
from service.library.upload_records import UploadSettings


class UploadConflictError(ClientSideError):
    """The upload is not in the state that the request requires."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "UPLOAD_CONFLICT"


class UploadCancelledError(Exception):
    """The stream of an upload was cancelled; raised in its thread."""


class UploadIncompleteError(ClientSideError):
    """Bytes are missing."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "UPLOAD_INCOMPLETE"


class UploadAbortedError(ClientSideError):
    """Another caller ended the upload while this stream was sending it."""

    code = grpc.StatusCode.ABORTED
    reason = "UPLOAD_GONE"


class UploadExistsError(ClientSideError):
    """The upload's id is in use."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "UPLOAD_EXISTS"


def offset_mismatch(write_offset: int, committed: int) -> UploadConflictError:
    """Return the error for a stream that does not continue at the committed size."""
    return UploadConflictError(
        f"write_offset_bytes is {write_offset}, but {committed} bytes are committed: resume "
        "from there",
        reason="UPLOAD_OFFSET_MISMATCH",
        metadata={"committed_bytes": str(committed)},
    )


def upload_exists(found: UploadSettings, wanted: UploadSettings) -> UploadExistsError:
    """Return the error for an upload that was started with other settings."""
    names = ("film_id", "title", "size", "digest")
    differ = [
        {"size": "film_size_bytes"}.get(name, name)
        for name in names
        if getattr(found, name) != getattr(wanted, name)
    ]
    what = f"other settings ({', '.join(differ)})" if differ else "its bytes coming another way"
    return UploadExistsError(
        f"this upload_id is that of an upload with {what}; choose another, or cancel that upload",
        resource=Resource("upload", wanted.upload_id),
    )


def upload_gone() -> UploadAbortedError:
    """Return the error for a stream whose upload was cancelled or removed meanwhile."""
    return UploadAbortedError("the upload was given up or removed meanwhile; begin it again")


def upload_not_found(upload_id: str) -> NotFoundError:
    """Return the error for an upload that does not exist."""
    return NotFoundError(
        "there is no such upload: it was never begun, was given up, or is too long ago",
        reason="UPLOAD_NOT_FOUND",
        resource=Resource("upload", upload_id),
    )


def wrong_digest(wanted: str, found: str) -> InvalidFieldError:
    """Return the error for bytes whose digest is not the caller's."""
    return InvalidFieldError(
        "settings.digest",
        f"is {wanted}, but that of the bytes that arrived is {found}; they were not kept",
        reason="FILM_DIGEST_MISMATCH",
    )


def film_too_large(film_bytes: int) -> OverloadedError:
    """Return the error for a film over the size limit, without a delay: retrying does not help."""
    return OverloadedError(f"the film is larger than {film_bytes} bytes", reason="FILM_TOO_LARGE")
