"""How a film comes in: a message that says what it is, and then its bytes, chunk by chunk."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal, TypeVar

from refilm.v1 import autoencoder_pb2, latents_pb2, library_pb2

from service.errors import IdleCallerError, InvalidFieldError

MAX_CHUNK_BYTES = 2**20

Request = TypeVar(
    "Request",
    autoencoder_pb2.ReconstructVideoRequest,
    latents_pb2.MatchClipRequest,
    library_pb2.UploadFilmRequest,
)
Head = Literal["settings", "opening"]
"""The field of the message that says what the film is."""


async def first_request(
    requests: AsyncIterator[Request], head: Head, what: str, idle_seconds: float
) -> Request:
    """Return the first message, which holds `head`; `what` names what follows, for errors.

    Raises InvalidFieldError, or IdleCallerError where it does not come within `idle_seconds`.
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


def chunk_of(request: Request, head: Head) -> bytes:
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


async def chunks_of(requests: AsyncIterator[Request], head: Head) -> AsyncIterator[bytes]:
    """Yield the bytes of all messages after the first; raises InvalidFieldError."""
    async for request in requests:
        yield chunk_of(request, head)
