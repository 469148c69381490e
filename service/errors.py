"""The service's errors: client-side and server-side, each with its gRPC status code.

Messages are for callers: they say what was wrong and what is expected, without paths, addresses or
stack traces. `service.rpc.errors` adds google.rpc details.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """An invalid field of a request, by its path in the message, for example "frame.raw.rgb"."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Resource:
    """The resource of an error: a type ("model", "film") and a name."""

    type: str
    name: str


class ServiceError(Exception):
    """Base of every error that reaches a caller."""

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL
    reason: str = "INTERNAL"
    """Stable, UPPER_SNAKE_CASE; becomes ErrorInfo.reason."""

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        violations: tuple[FieldViolation, ...] = (),
        resource: Resource | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.violations = violations
        self.resource = resource
        self.retry_after = retry_after
        """Seconds to wait before a retry; becomes RetryInfo."""
        self.metadata = dict(metadata or {})


class ClientSideError(ServiceError):
    """The request is invalid; the same request will fail again."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"


class InvalidFieldError(ClientSideError):
    """One field of the request is invalid."""

    reason = "INVALID_FIELD"

    def __init__(self, field: str, description: str, *, reason: str | None = None) -> None:
        super().__init__(
            f"{field}: {description}",
            reason=reason,
            violations=(FieldViolation(field, description),),
        )


class NotFoundError(ClientSideError):
    """The resource that the request names does not exist."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "NOT_FOUND"


class DigestMismatchError(ClientSideError):
    """The request asks for one digest and names a version with another."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_DIGEST_MISMATCH"


class LimitError(ClientSideError):
    """The request's content is over a limit; the metadata names the setting."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "LIMIT_EXCEEDED"


class DataLossError(ClientSideError):
    """The film or picture is truncated or damaged; what could be decoded was delivered."""

    code = grpc.StatusCode.DATA_LOSS
    reason = "FILM_TRUNCATED"


class IdleCallerError(ClientSideError):
    """The caller sent nothing for too long."""

    code = grpc.StatusCode.ABORTED
    reason = "CALLER_IDLE"


class ServerSideError(ServiceError):
    """The request is fine; the same request may succeed later."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"


class UnavailableError(ServerSideError):
    """A backend (Triton, a model, the store) is unavailable."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "BACKEND_UNAVAILABLE"


class LateError(ServerSideError):
    """The caller's deadline expired."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class OverloadedError(ServerSideError):
    """The service is overloaded; with a retry delay."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
