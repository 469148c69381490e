"""Maps the service's errors to gRPC statuses with google.rpc details."""

from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from service.errors import ClientSideError, ServiceError
from service.rpc.durations import duration

ERROR_DOMAIN = "refilm"
RETRY_PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata key for the delay before gRPC's own retries."""
_NEVER = "-1"


class Refusal(NamedTuple):
    """The arguments of `context.abort`."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def refusal(error: ServiceError, request_id: str) -> Refusal:
    """Return the status of a call that fails with `error`."""
    message = status_pb2.Status(
        code=error.code.value[0], message=error.message, details=_details(error, request_id)
    )
    status = rpc_status.to_status(message)
    trailing = tuple(status.trailing_metadata)
    if error.retry_after is not None:
        trailing += ((RETRY_PUSHBACK_KEY, str(round(error.retry_after * 1000))),)
    elif isinstance(error, ClientSideError):
        # gRPC would retry based on the code alone.
        trailing += ((RETRY_PUSHBACK_KEY, _NEVER),)
    return Refusal(error.code, error.message, trailing)


def _details(error: ServiceError, request_id: str) -> list[AnyMessage]:
    details: list[Message] = [
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=ERROR_DOMAIN,
            metadata={**error.metadata, "request_id": request_id},
        )
    ]
    if error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field,
                        description=violation.description,
                        reason=error.reason,
                    )
                    for violation in error.violations
                ]
            )
        )
    if error.resource is not None:
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=error.resource.type,
                resource_name=error.resource.name,
                description=error.message,
            )
        )
    if error.retry_after is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=duration(error.retry_after)))
    return [_packed(detail) for detail in details]


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
