"""What a failed call says, with its google.rpc details parsed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2 as details_pb
from grpc_status import rpc_status


@dataclass(frozen=True)
class CallError:
    """A failed call's status."""

    code: grpc.StatusCode
    message: str
    domain: str = ""
    reason: str = ""
    fields: tuple[str, ...] | list[str] = ()
    resource: tuple[str, str] | None = None
    retry_seconds: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    """The ErrorInfo's."""


def error_of(call: Callable[..., object]) -> CallError:
    """Return how a call failed; a call that does not fail fails the test."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return parse_error(error)
    raise AssertionError(f"the call succeeded: {answer}")


def parse_error(error: grpc.RpcError) -> CallError:
    """Return a failed call's message."""
    status = rpc_status.from_call(cast(grpc.Call, error))
    parts: dict[str, Any] = {}
    for detail in status.details if status else ():
        info, bad = details_pb.ErrorInfo(), details_pb.BadRequest()
        resource, retry = details_pb.ResourceInfo(), details_pb.RetryInfo()
        if detail.Unpack(info):
            parts |= {"domain": info.domain, "reason": info.reason}
            parts["metadata"] = dict(info.metadata)
        if detail.Unpack(bad):
            parts["fields"] = [violation.field for violation in bad.field_violations]
        if detail.Unpack(resource):
            parts["resource"] = (resource.resource_type, resource.resource_name)
        if detail.Unpack(retry):
            parts["retry_seconds"] = retry.retry_delay.ToMilliseconds() / 1000
    return CallError(code=error.code(), message=error.details() or "", **parts)
