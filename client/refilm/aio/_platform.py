"""What differs between the two clients; `refilm._platform` is the synchronous counterpart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import grpc
import grpc.aio

from refilm._channel import OPTIONS
from refilm._source import FilmSource, PulledFile, is_file

if TYPE_CHECKING:
    UnaryMethod = grpc.aio.UnaryUnaryMultiCallable
    StreamMethod = grpc.aio.StreamStreamMultiCallable
    AnswersMethod = grpc.aio.UnaryStreamMultiCallable
    UploadMethod = grpc.aio.StreamUnaryMultiCallable
    UploadCall = grpc.aio.StreamUnaryCall

_T = TypeVar("_T")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_P = ParamSpec("_P")

Items = Iterable[_T] | AsyncIterable[_T]

# Replaces the true status if a call ends just then: https://github.com/grpc/grpc/issues/36066
_ENDED_WHILE_WRITING = "Internal error from Core"

CALL_ENDED = (grpc.RpcError, asyncio.CancelledError)
"""What iterating over a call raises when the call ends early."""


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """Returns a channel, which connects at the first call."""
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
    """Runs a function that waits for a disk or a pipe, without blocking the event loop."""
    return await asyncio.to_thread(function, *args, **kwargs)


def begin(
    method: UploadMethod[_Request, _Response],
    requests: AsyncIterator[_Request],
    timeout: float | None,
) -> UploadCall[_Request, _Response]:
    """Starts a call that streams requests and has one response."""
    return method(requests, timeout=timeout)


async def answer(call: UploadCall[_Request, _Response]) -> _Response:
    """Returns the call's answer."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.details() != _ENDED_WHILE_WRITING:
            raise
        # That does not say why it ended: usually the connection was lost.
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.UNAVAILABLE,
            error.initial_metadata(),
            error.trailing_metadata(),
            "the call ended while a request was being sent",
        ) from error


class Pauses:
    """Waits that end when the client is closed."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Waits; returns whether the client was closed meanwhile."""
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except asyncio.TimeoutError:  # Differs from TimeoutError before 3.11.
            return False
        return True

    def end(self) -> None:
        """Ends all waits, current and future."""
        self._closed.set()


def as_file(source: FilmSource | bytes | Items[bytes]) -> FilmSource | bytes:
    """Returns an iterable of pieces as a file, to be read on another thread; others unchanged."""
    if is_file(source):
        return source
    if not isinstance(source, AsyncIterable):
        pieces = iter(cast("Iterable[bytes]", source))
        return PulledFile(lambda: next(pieces, None))
    loop = asyncio.get_running_loop()
    coming = aiter(source)

    async def pull() -> bytes | None:
        return await anext(coming, None)

    return PulledFile(lambda: asyncio.run_coroutine_threadsafe(pull(), loop).result())
