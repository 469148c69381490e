"""What can go wrong.

RefilmError
  RequestError            the request is at fault: the same request will fail again
    InvalidRequestError   a field of it is faulty
      OutOfRangeError     it asks for something beyond the end
    NotFoundError         what it names does not exist
    AlreadyExistsError    what it would create exists already, or existed
    PreconditionError     what it asks for contradicts what the service has
    DataLossError         a film is truncated or damaged; what could be made of it was delivered
  ServiceError            the service's side: the same request may succeed later
    UnavailableError      it cannot be reached, or what it depends on cannot answer
    OverloadedError       it is overloaded
    DeadlineError         the answer did not come in time
    InternalError         it failed unexpectedly
  CancelledError          the call was cancelled
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True)
class FieldViolation:
    """One faulty field of a request."""

    field: str
    """The field's path in the request, for example "frame.raw.rgb"."""
    description: str
    """What was wrong with it and what would be correct."""


class RefilmError(Exception):
    """Base of every error with which a call ends.

    Attributes:
        message: What was wrong, in one or two sentences.
        code: The call's status code.
        reason: Stable and machine-readable, for example "MODEL_NOT_FOUND"; empty if none was sent.
        violations: The faulty fields.
        retry_after: Seconds after which a retry makes sense; None if none does.
        metadata: Further details of the reason, from the service.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.violations = violations
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})

    def __repr__(self) -> str:
        reason = f", reason={self.reason!r}" if self.reason else ""
        return f"{type(self).__name__}({self.message!r}, code={self.code.name}{reason})"


class RequestError(RefilmError):
    """The request is at fault; the same request will fail again."""


class InvalidRequestError(RequestError):
    """The request is faulty; `violations` names the fields."""


class OutOfRangeError(InvalidRequestError):
    """The request asks for something beyond the end, for example of a file."""


class NotFoundError(RequestError):
    """What the request names does not exist, for example a model or a film."""


class AlreadyExistsError(RequestError):
    """What the request would create exists already, or existed: a film's id is not reused."""


class PreconditionError(RequestError):
    """What the request asks for contradicts what the service has, for example a model's digest."""


class DataLossError(RequestError):
    """A film is truncated or damaged; what could be made of it was delivered.

    Attributes:
        partial: Where `Client.reconstruct` kept the film up to that point; None if it wrote to a
            file object, or if nothing arrived.
    """

    partial: Path | None = None

    def __str__(self) -> str:
        kept = f" (what could be made of it is in {self.partial})" if self.partial else ""
        return f"{self.message}{kept}"


class ServiceError(RefilmError):
    """The service is at fault; the same request may succeed later."""


class UnavailableError(ServiceError):
    """The service cannot be reached, or what it depends on cannot answer now."""


class OverloadedError(ServiceError):
    """The service is overloaded; `retry_after` says whether and when to retry."""


class DeadlineError(ServiceError):
    """The answer did not come within the call's timeout."""


class InternalError(ServiceError):
    """The service failed unexpectedly."""


class CancelledError(RefilmError):
    """The call was cancelled."""
