"""From a gRPC status with google.rpc details to an error of this package."""

from __future__ import annotations

from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from refilm import _errors as errors

_ERRORS: dict[grpc.StatusCode, type[errors.RefilmError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: errors.OutOfRangeError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionError,
    grpc.StatusCode.DATA_LOSS: errors.DataLossError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.OverloadedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineError,
    grpc.StatusCode.CANCELLED: errors.CancelledError,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.ABORTED: errors.ServiceError,
    grpc.StatusCode.UNIMPLEMENTED: errors.RequestError,
    grpc.StatusCode.UNAUTHENTICATED: errors.RequestError,
    grpc.StatusCode.PERMISSION_DENIED: errors.RequestError,
}


def error_from_rpc(error: grpc.RpcError, address: str) -> errors.RefilmError:
    """Returns the error that callers see for what gRPC raised.

    Args:
        error: As raised by a call of `grpc` or `grpc.aio`.
        address: The service's, for messages that it cannot be reached.
    """
    code: grpc.StatusCode = error.code() or grpc.StatusCode.UNKNOWN
    message: str = error.details() or code.name
    status = _rich_status(error)
    if status is None:
        # The transport's own message, not the service's.
        if code is grpc.StatusCode.UNAVAILABLE:
            message = f"the service at {address} cannot be reached: {message}"
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            message = f"the service at {address} did not answer within the call's timeout"
        status = status_pb2.Status()

    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    bad_request = error_details_pb2.BadRequest()
    has_retry = False
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad_request)
        has_retry = detail.Unpack(retry) or has_retry
    return _ERRORS.get(code, errors.InternalError)(
        message,
        code=code,
        reason=info.reason,
        violations=tuple(
            errors.FieldViolation(violation.field, violation.description)
            for violation in bad_request.field_violations
        ),
        retry_after=retry.retry_delay.ToTimedelta().total_seconds() if has_retry else None,
        metadata=info.metadata,
    )


def _rich_status(error: grpc.RpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(cast("grpc.Call", error))
    except (ValueError, DecodeError):
        # A proxy changed one and not the other: only the plain status can be trusted.
        return None
