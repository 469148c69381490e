"""The protocol of request streams: settings before items, a head before a film, and the end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal, TypeVar

import grpc
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import latents_pb2, library_pb2

from service.errors import IdleCallerError, InvalidFieldError

MAX_CHUNK_BYTES = 2**20
MAX_REQUEST_ID = 128
"""In characters."""

Request = TypeVar("Request", pb.EncodeStreamRequest, pb.DecodeStreamRequest)
FilmRequest = TypeVar(
    "FilmRequest",
    pb.ReconstructVideoRequest,
    latents_pb2.MatchClipRequest,
    library_pb2.UploadFilmRequest,
)
AnyRequest = TypeVar("AnyRequest")
AnyResponse = TypeVar("AnyResponse")
Name = Literal["frame", "latent"]
Head = Literal["settings", "opening"]
"""The field of the first message of a film's stream, which describes the film."""


async def opened(
    requests: AsyncIterator[Request], name: Name
) -> tuple[Request, AsyncIterator[Request]]:
    """Return the first message, with the settings or their defaults, and the messages with items.

    Raises InvalidFieldError for an empty stream; iterating raises it for a message without an item.
    """
    first = await anext(requests, None)
    if first is None:
        raise _empty(name)
    return first, _items(first, requests, name)


async def _items(
    first: Request, requests: AsyncIterator[Request], name: Name
) -> AsyncIterator[Request]:
    count = 0
    if first.WhichOneof("payload") != "settings":
        yield _checked(first, name, count)
        count += 1
    async for request in requests:
        yield _checked(request, name, count)
        count += 1
    if not count:
        raise _empty(name)


def _checked(request: Request, name: Name, index: int) -> Request:
    match request.WhichOneof("payload"):
        case "settings":
            raise InvalidFieldError(
                "settings",
                f"came after {index} {name}s; settings belong in the first message only"
                if index
                else "came twice; settings belong in the first message only",
                reason="SETTINGS_NOT_FIRST",
            )
        case None:
            raise InvalidFieldError(
                f"{name}[{index}]",
                f"the message is empty; set {name}",
                reason=f"{name.upper()}_REQUIRED",
            )
        case _:
            return request


def _empty(name: Name) -> InvalidFieldError:
    return InvalidFieldError(
        name, f"the stream holds no {name}; send at least one", reason="EMPTY_STREAM"
    )


async def first_request(
    requests: AsyncIterator[FilmRequest], head: Head, what: str, idle_seconds: float
) -> FilmRequest:
    """Return the first message, which holds `head`; `what` names what follows, for errors.

    Raises InvalidFieldError, or IdleCallerError if it does not arrive within `idle_seconds`.
    """
    try:
        async with asyncio.timeout(idle_seconds):
            first = await anext(aiter(requests), None)
    except TimeoutError:
        raise IdleCallerError(
            f"no message came for {idle_seconds:.0f} s; send {head}, then {what}"
        ) from None
    if first is None:
        raise InvalidFieldError(
            head, f"the stream is empty; send {head}, then {what}", reason="EMPTY_STREAM"
        )
    if first.WhichOneof("payload") != head:
        raise InvalidFieldError(
            head, "must be in the first message", reason=f"{head.upper()}_REQUIRED"
        )
    return first


def chunk_of(request: FilmRequest, head: Head) -> bytes:
    """Return the bytes of a message after the first; raises InvalidFieldError."""
    match request.WhichOneof("payload"):
        case "chunk":
            size = len(request.chunk)
            if not 1 <= size <= MAX_CHUNK_BYTES:
                raise InvalidFieldError(
                    "chunk",
                    f"has {size} bytes; must have from 1 to {MAX_CHUNK_BYTES}",
                    reason="INVALID_CHUNK_SIZE",
                )
            return request.chunk
        case None:
            raise InvalidFieldError(
                "chunk", "the message carries nothing; set chunk", reason="CHUNK_REQUIRED"
            )
        case _:
            raise InvalidFieldError(
                head, "may be in the first message only", reason=f"{head.upper()}_REPEATED"
            )


async def chunks_of(requests: AsyncIterator[FilmRequest], head: Head) -> AsyncIterator[bytes]:
    """Yield the bytes of all messages after the first; raises InvalidFieldError."""
    async for request in requests:
        yield chunk_of(request, head)


async def ended_by_caller(
    context: "grpc.aio.ServicerContext[AnyRequest, AnyResponse]",
) -> None:
    """Return if the requests ended because the caller half-closed; else the call is cancelled here.

    In a grpc.aio handler, a call that was cancelled or lost its connection mostly looks half-closed
    first: its requests just end, and the cancellation follows a moment later. Code that treats the
    end of a stream as the end of a film must wait for that moment.

    Works by sending the initial metadata: gRPC's core processes that after whatever ended the
    requests, and not on a broken stream. So call it once, before any response.
    """
    await context.send_initial_metadata(())


def check_request_id(request_id: str) -> None:
    """Raise InvalidFieldError for a request id (AIP-155) that is too long; it may be empty."""
    if len(request_id) > MAX_REQUEST_ID:
        raise InvalidFieldError(
            "request_id",
            f"has {len(request_id)} characters; must have at most {MAX_REQUEST_ID}",
            reason="INVALID_REQUEST_ID",
        )
