# Made of refilm/aio/_transport.py by `make proto`: edit that.
# ruff: noqa: UP028
"""How calls are made: deadlines, errors, and streams that end cleanly."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import grpc

from refilm._errors import CancelledError
from refilm._platform import CALL_ENDED, Pauses, answer, begin, open_channel
from refilm._status import error_from_rpc

if TYPE_CHECKING:
    from refilm._platform import AnswersMethod, StreamMethod, UnaryMethod, UploadMethod

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Transport:
    """One connection, and the four kinds of calls over it."""

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None,
        timeout: float,
        stream_timeout: float,
    ) -> None:
        self.address = address
        self.channel = open_channel(address, credentials)
        self.timeout = timeout
        self._stream_timeout = stream_timeout
        self._pauses = Pauses()

    def close(self) -> None:
        """Closes the connection and cancels running calls."""
        self._pauses.end()
        self.channel.close()

    def unary(
        self,
        method: UnaryMethod[_Request, _Response],
        request: _Request,
        timeout: float | None,
    ) -> _Response:
        """Returns the response; raises RefilmError."""
        try:
            return method(request, timeout=_deadline(timeout, self.timeout))
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.address) from error

    def stream(
        self,
        method: StreamMethod[_Request, _Response],
        requests: Iterator[_Request],
        timeout: float | None,
    ) -> Generator[_Response]:
        """Yields the responses; raises RefilmError, or what `requests` raises."""
        feed = _Feed(requests)
        call = method(feed.messages(), timeout=_deadline(timeout, self._stream_timeout))
        feed.attach(call)
        try:
            for response in call:
                yield response
        except CALL_ENDED as error:
            if feed.error is not None:
                raise feed.error from None
            if isinstance(error, grpc.RpcError):
                raise error_from_rpc(error, self.address) from error
            raise
        finally:
            call.cancel()

    def answers(
        self,
        method: AnswersMethod[_Request, _Response],
        request: _Request,
        timeout: float | None,
    ) -> Generator[_Response]:
        """Yields the responses to one request; raises RefilmError."""
        call = method(request, timeout=_deadline(timeout, self._stream_timeout))
        try:
            for response in call:
                yield response
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.address) from error
        finally:
            call.cancel()

    def upload(
        self,
        method: UploadMethod[_Request, _Response],
        requests: Iterator[_Request],
        timeout: float | None,
    ) -> _Response:
        """Returns the response to a stream; raises RefilmError, or what `requests` raises."""
        feed = _Feed(requests)
        call = begin(method, feed.messages(), _deadline(timeout, self._stream_timeout))
        feed.attach(call)
        try:
            return answer(call)
        except CALL_ENDED as error:
            if feed.error is not None:
                raise feed.error from None
            if isinstance(error, grpc.RpcError):
                raise error_from_rpc(error, self.address) from error
            raise
        finally:
            call.cancel()

    def transfer_timeout(self, timeout: float | None) -> float:
        """Returns the seconds that a transfer may take, including all retries."""
        return self._stream_timeout if timeout is None else timeout

    def pause(self, seconds: float) -> None:
        """Waits before the next attempt; raises CancelledError once the client is closed."""
        if self._pauses.wait(seconds):
            raise CancelledError("the client was closed", code=grpc.StatusCode.CANCELLED)


def _deadline(timeout: float | None, default: float) -> float | None:
    seconds = default if timeout is None else timeout
    return None if math.isinf(seconds) else seconds


class _Cancellable(Protocol):
    def cancel(self) -> object: ...


class _Feed(Generic[_Request]):
    """Outgoing requests; keeps the exception that the caller's iterable raised.

    gRPC would log it and end the call with a status of its own.
    """

    def __init__(self, requests: Iterator[_Request]) -> None:
        self._requests = requests
        self._call: _Cancellable | None = None
        # gRPC may request these on a thread of its own, before the call is set here.
        self._lock = threading.Lock()
        self.error: Exception | None = None

    def attach(self, call: _Cancellable) -> None:
        """Sets the call that an error in the requests is to end."""
        with self._lock:
            self._call = call
            failed = self.error is not None
        if failed:
            call.cancel()

    def messages(self) -> Iterator[_Request]:
        """Yields the requests; ends the call if they raise."""
        try:
            for request in self._requests:
                yield request
        except Exception as error:
            with self._lock:
                self.error = error
                call = self._call
            if call is not None:
                call.cancel()
