"""What can go wrong.

RefilmError
  RequestError            the request is at fault: the same request will fail again
    InvalidRequestError   a field of it is faulty
      OutOfRangeError     it asks for what lies behind the end
    NotFoundError         what it names does not exist
    AlreadyExistsError    what it would create is there already, or was
    PreconditionError     what it asks for contradicts what the service has
    DataLossError         a film is truncated or is damaged; what could be made of it was delivered
  ServiceError            the service's side: the same request may succeed later
    UnavailableError      it cannot be reached, or what it stands on cannot answer
    OverloadedError       it has no room for the request
    DeadlineError         the answer did not come in time
    InternalError         it failed in a way that it did not foresee
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
    """What was wrong with it and what would be right."""


class RefilmError(Exception):
    """Base of every error that a call ends with.

    Attributes:
        message: What was wrong, in one or two sentences.
        code: The call's status code.
        reason: Stable and fit for machines, for example "MODEL_NOT_FOUND"; empty where none came.
        violations: The faulty fields.
        retry_after: Seconds after which a retry makes sense; None where none does.
        metadata: What else the service says about the reason.
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
    """The request asks for what lies behind the end, for example of a file."""


class NotFoundError(RequestError):
    """What the request names does not exist, for example a model or a film."""


class AlreadyExistsError(RequestError):
    """What the request would create is there already, or was: a film's id is not used again."""


class PreconditionError(RequestError):
    """What the request asks for contradicts what the service has, for example a model's digest."""


class DataLossError(RequestError):
    """A film is truncated or is damaged; what could be made of it was delivered.

    Attributes:
        partial: Where `Client.reconstruct` kept the film up to there; None where it wrote to a
            file object, or where nothing came.
    """

    partial: Path | None = None

    def __str__(self) -> str:
        kept = f" (what could be made of it is in {self.partial})" if self.partial else ""
        return f"{self.message}{kept}"


class ServiceError(RefilmError):
    """The service's side; the same request may succeed later."""


class UnavailableError(ServiceError):
    """The service cannot be reached, or what it stands on cannot answer now."""


class OverloadedError(ServiceError):
    """The service has no room for the request; `retry_after` says whether and when it will."""


class DeadlineError(ServiceError):
    """The answer did not come within the call's timeout."""


class InternalError(ServiceError):
    """The service failed in a way that it did not foresee."""


class CancelledError(RefilmError):
    """The call was cancelled."""
