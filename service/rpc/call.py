"""The call in progress: its context, and its facts for the log and the response."""

import re
import uuid
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import grpc

from service.inference import ModelVersion

Request = TypeVar("Request")
Response = TypeVar("Response")
Context: TypeAlias = "grpc.aio.ServicerContext[Request, Response]"
"""The context that gRPC passes to a handler. Quote it: only gRPC's stubs are generic."""

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass(slots=True)
class Call:
    """Facts about one call, filled in as they become known."""

    request_id: str
    model: ModelVersion | None = None
    frames: int = 0
    """Frames or latents returned."""
    received_bytes: int = 0
    sent_bytes: int = 0


_current: ContextVar[Call] = ContextVar("call")


def current_call() -> Call:
    """Return the call that the current task handles."""
    return _current.get()


def begin_call(request_id: str | None) -> Call:
    """Start a call in this task; an invalid request id (length, characters) is replaced."""
    valid = request_id is not None and _REQUEST_ID.fullmatch(request_id)
    call = Call(request_id if request_id is not None and valid else uuid.uuid4().hex)
    _current.set(call)
    return call
