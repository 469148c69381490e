"""What differs between the two clients; `refilm._platform` is its synchronous twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import grpc
import grpc.aio

from refilm._channel import OPTIONS

if TYPE_CHECKING:
    UnaryMethod = grpc.aio.UnaryUnaryMultiCallable
    StreamMethod = grpc.aio.StreamStreamMultiCallable


_T = TypeVar("_T")
_P = ParamSpec("_P")

Items = Iterable[_T] | AsyncIterable[_T]

CALL_ENDED = (grpc.RpcError, asyncio.CancelledError)
"""What iterating over a call raises when the call ends early."""


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """Returns a channel; it connects with the first call."""
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    return grpc.aio.secure_channel(address, credentials, options=OPTIONS)


async def iterate(items: Items[_T]) -> AsyncIterator[_T]:
    """Yields the items of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def blocking(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Returns what a function returns that waits for a disk or a pipe; the loop goes on."""
    return await asyncio.to_thread(function, *args, **kwargs)
