"""What differs between the two clients; `refilm.aio._platform` is the asynchronous counterpart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import grpc

from refilm._channel import OPTIONS
from refilm._source import FilmSource, PulledFile, is_file

if TYPE_CHECKING:
    UnaryMethod = grpc.UnaryUnaryMultiCallable
    StreamMethod = grpc.StreamStreamMultiCallable
    AnswersMethod = grpc.UnaryStreamMultiCallable
    UploadMethod = grpc.StreamUnaryMultiCallable
    UploadCall = grpc._CallFuture

_T = TypeVar("_T")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_P = ParamSpec("_P")

Items = Iterable[_T]

CALL_ENDED = (grpc.RpcError,)
"""What iterating over a call raises when the call ends early."""


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """Returns a channel, which connects at the first call."""
    if credentials is None:
        return grpc.insecure_channel(address, options=OPTIONS)
    return grpc.secure_channel(address, credentials, options=OPTIONS)


def iterate(items: Items[_T]) -> Iterator[_T]:
    """Returns an iterator over the items."""
    return iter(items)


def blocking(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Returns what the function returns."""
    return function(*args, **kwargs)


def begin(
    method: UploadMethod[_Request, _Response],
    requests: Iterator[_Request],
    timeout: float | None,
) -> UploadCall[_Response]:
    """Starts a call that streams requests and has one response."""
    return method.future(requests, timeout=timeout)


def answer(call: UploadCall[_Response]) -> _Response:
    """Returns the call's answer."""
    try:
        return call.result()
    except grpc.FutureCancelledError:
        # The call is its own error, with its code and details.
        if isinstance(call, grpc.RpcError):
            raise call from None
        raise


class Pauses:
    """Waits that end when the client is closed."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Waits; returns whether the client was closed meanwhile."""
        return self._closed.wait(seconds)

    def end(self) -> None:
        """Ends all waits, current and future."""
        self._closed.set()


def as_file(source: FilmSource | bytes | Items[bytes]) -> FilmSource | bytes:
    """Returns an iterable of pieces as a file; others as they are."""
    if is_file(source):
        return source
    pieces = iter(cast("Iterable[bytes]", source))
    return PulledFile(lambda: next(pieces, None))
