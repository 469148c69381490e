"""Wraps every call: metrics, a log line, errors as statuses, and the gate for draining."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TypeAlias, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import Message

from service import metrics
from service.errors import ServerSideError, ServiceError, UnavailableError
from service.rpc.call import REQUEST_ID_KEY, Call, begin_call
from service.rpc.errors import refusal

log = structlog.get_logger("service.calls")

_OWN_PACKAGE = "refilm."
_ON_THE_WAY_SECONDS = 0.1
"""How much earlier than the service's a caller's deadline may expire: network latency."""
_KINDS = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}

# Quoted: only their stubs are generic.
Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Request, Response]"
Continuation: TypeAlias = (
    "Callable[[grpc.HandlerCallDetails], Awaitable[Handler[Request, Response] | None]]"
)
Request = TypeVar("Request")
Response = TypeVar("Response")


class Gate:
    """Counts the calls in progress, and rejects new ones once it is closed."""

    def __init__(self) -> None:
        self.closed = False
        self._running = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def running(self) -> int:
        """Calls in progress."""
        return self._running

    def enter(self) -> None:
        """Count the start of a call; raises UnavailableError once the gate is closed."""
        if self.closed:
            raise UnavailableError(
                "the service is shutting down; try again",
                reason="SHUTTING_DOWN",
                retry_after=1.0,
            )
        self._running += 1
        self._empty.clear()

    def leave(self) -> None:
        """Count the end of a call."""
        self._running -= 1
        if not self._running:
            self._empty.set()

    async def emptied(self) -> None:
        """Wait until no call is in progress."""
        await self._empty.wait()


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handler of every method of every service."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(
        self,
        continuation: "Continuation[Request, Response]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler[Request, Response] | None":
        """Return the method's wrapped handler; called once per call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        metadata = dict(handler_call_details.invocation_metadata or ())
        request_id = metadata.get(REQUEST_ID_KEY)
        call = begin_call(request_id if isinstance(request_id, str) else None)
        kind = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
        return _wrapped(handler, _Around(self._gate, handler_call_details.method, kind, call))


class _Around:
    """Wraps one call: what happens before and after it."""

    def __init__(self, gate: Gate, path: str, kind: str, call: Call) -> None:
        self._gate = gate
        self._service, self._method = path.strip("/").split("/", 1)
        self._own = self._service.startswith(_OWN_PACKAGE)
        self._call = call
        self._labels = (kind, self._service, self._method)

    def received(self, data: bytes) -> None:
        self._call.received_bytes += len(data)
        metrics.RECEIVED_BYTES.labels(self._method).inc(len(data))

    def sent(self, data: bytes) -> None:
        self._call.sent_bytes += len(data)
        metrics.SENT_BYTES.labels(self._method).inc(len(data))

    @asynccontextmanager
    async def __call__(self, context: Context) -> AsyncIterator[None]:
        started, peer = time.monotonic(), context.peer()
        metrics.CALLS_STARTED.labels(*self._labels).inc()
        metrics.CALLS_RUNNING.labels(self._method).inc()
        context.set_trailing_metadata(((REQUEST_ID_KEY, self._call.request_id),))
        code = grpc.StatusCode.UNKNOWN
        reason: str | None = None
        entered = False
        over = asyncio.Event()
        # The stub types the callback as a class, not a protocol: nothing can match it.
        context.add_done_callback(lambda _: over.set())  # type: ignore[arg-type]
        try:
            if self._own:
                self._gate.enter()
                entered = True
            yield
            code = grpc.StatusCode.OK
        except ServiceError as error:
            code, reason = error.code, error.reason
            await self._abort(context, error)
        except (asyncio.CancelledError, GeneratorExit):
            late = context.time_remaining()
            code = grpc.StatusCode.CANCELLED
            if late is not None and late <= _ON_THE_WAY_SECONDS:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise
        except grpc.aio.AbortError:
            # A library's servicer (reflection) that set its own status.
            code = _CODES.get(cast(int, context.code()), grpc.StatusCode.UNKNOWN)
            raise
        except Exception:
            log.exception("unexpected error", method=self._method, request_id=self._call.request_id)
            failure = ServerSideError(
                f"internal error; its details are in the log at request id {self._call.request_id}"
            )
            code, reason = failure.code, failure.reason
            await self._abort(context, failure)
        finally:
            seconds = time.monotonic() - started
            metrics.CALLS_RUNNING.labels(self._method).dec()
            metrics.CALLS_HANDLED.labels(*self._labels, code.name).inc()
            metrics.CALL_SECONDS.labels(*self._labels).observe(seconds)
            # The response is serialized and counted only when the call is over; the service does
            # not exit before the call's log line is written.
            end = partial(self._end, entered, peer, code, reason, seconds)
            if over.is_set():
                # The caller disconnected during a response: this is closed after the call, and
                # gRPC ignores callbacks that are added now.
                end()
            else:
                context.add_done_callback(lambda _: end())  # type: ignore[arg-type]  # as above

    def _end(
        self, entered: bool, peer: str, code: grpc.StatusCode, reason: str | None, seconds: float
    ) -> None:
        self._log(peer, code, reason, seconds)
        if entered:
            self._gate.leave()

    async def _abort(self, context: Context, error: ServiceError) -> None:
        status = refusal(error, self._call.request_id)
        await context.abort(
            status.code,
            status.details,
            (*status.trailing_metadata, (REQUEST_ID_KEY, self._call.request_id)),
        )

    def _log(self, peer: str, code: grpc.StatusCode, reason: str | None, seconds: float) -> None:
        call = self._call
        facts: dict[str, object] = {
            "method": f"{self._service}/{self._method}",
            "code": code.name,
            "seconds": round(seconds, 6),
            "peer": peer,
            "request_id": call.request_id,
            "received_bytes": call.received_bytes,
            "sent_bytes": call.sent_bytes,
        }
        if reason is not None:
            facts["reason"] = reason
        if call.model is not None:
            facts["model"] = call.model.name
            facts["version"] = call.model.version
        if call.frames:
            facts["frames"] = call.frames
        # Every load balancer sends health checks every few seconds.
        (log.info if self._own else log.debug)("call", **facts)


def _wrapped(
    handler: "Handler[Request, Response]", around: _Around
) -> "Handler[Request, Response]":
    parse, serialize = handler.request_deserializer, handler.response_serializer
    if parse is None or serialize is None:
        return handler

    def counted_parse(data: bytes) -> Request:
        around.received(data)
        return parse(data)

    def counted_serialize(message: Response) -> bytes:
        data = serialize(message)
        around.sent(data)
        return data

    if handler.response_streaming:
        answers = cast(
            Callable[[object, Context], AsyncGenerator[Response, None]],
            handler.stream_stream or handler.unary_stream,
        )

        async def stream(request: object, context: Context) -> AsyncIterator[Response]:
            async with around(context), aclosing(answers(request, context)) as responses:
                async for response in responses:
                    yield response

        make_stream = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make_stream(stream, counted_parse, counted_serialize)

    answer = cast(
        Callable[[object, Context], Awaitable[Response]],
        handler.stream_unary or handler.unary_unary,
    )

    async def single(request: object, context: Context) -> Response:
        async with around(context):
            return await answer(request, context)

    make_single = (
        grpc.stream_unary_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make_single(single, counted_parse, counted_serialize)
