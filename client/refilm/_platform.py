"""What differs between the two clients; `refilm.aio._platform` is its asynchronous twin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import grpc

from refilm._channel import OPTIONS

if TYPE_CHECKING:
    UnaryMethod = grpc.UnaryUnaryMultiCallable
    StreamMethod = grpc.StreamStreamMultiCallable

_T = TypeVar("_T")
_P = ParamSpec("_P")

Items = Iterable[_T]

CALL_ENDED = (grpc.RpcError,)
"""What iterating over a call raises when the call ends early."""


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """Returns a channel; it connects with the first call."""
    if credentials is None:
        return grpc.insecure_channel(address, options=OPTIONS)
    return grpc.secure_channel(address, credentials, options=OPTIONS)


def iterate(items: Items[_T]) -> Iterator[_T]:
    """Returns an iterator over the items."""
    return iter(items)


def blocking(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Returns what the function returns."""
    return function(*args, **kwargs)
