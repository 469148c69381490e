"""How a stream of requests opens: settings, optional but first, and then the items."""

from collections.abc import AsyncIterator
from typing import Literal, TypeVar

from refilm.v1 import autoencoder_pb2 as pb

from service.errors import InvalidFieldError

Request = TypeVar("Request", pb.EncodeStreamRequest, pb.DecodeStreamRequest)
Name = Literal["frame", "latent"]


async def opened(
    requests: AsyncIterator[Request], name: Name
) -> tuple[Request, AsyncIterator[Request]]:
    """Return the first message, which holds the settings or their defaults, and those with items.

    Raises InvalidFieldError for an empty stream; iterating raises it at a message without an item.
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
