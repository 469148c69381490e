"""Around every call: its metrics, its log line, its errors as statuses, and the gate at the end."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import cast

import grpc
import structlog
from google.protobuf.message import Message

from service import metrics
from service.errors import ServerSideError, ServiceError, UnavailableError
from service.rpc.call import REQUEST_ID_KEY, Call, begin_call
from service.rpc.errors import refusal

log = structlog.get_logger("service.calls")

_OWN_PACKAGE = "refilm."
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Message, Message]
Handler = grpc.RpcMethodHandler[Message, Message]
Answer = Callable[[object, Context], Awaitable[Message]]
Answers = Callable[[object, Context], AsyncIterator[Message]]


class Gate:
    """Counts the calls in work, and lets no more in once it is closed."""

    def __init__(self) -> None:
        self.closed = False
        self._running = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def running(self) -> int:
        """Calls in work."""
        return self._running

    def enter(self) -> None:
        """Count a call in; raises UnavailableError once the gate is closed."""
        if self.closed:
            raise UnavailableError(
                "the service is shutting down; try again",
                reason="SHUTTING_DOWN",
                retry_after=1.0,
            )
        self._running += 1
        self._empty.clear()

    def leave(self) -> None:
        """Count a call out."""
        self._running -= 1
        if not self._running:
            self._empty.set()

    async def emptied(self) -> None:
        """Wait until no call is in work."""
        await self._empty.wait()


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of every service."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's handler with everything around it; asked once a call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        metadata = dict(handler_call_details.invocation_metadata or ())
        request_id = metadata.get(REQUEST_ID_KEY)
        call = begin_call(request_id if isinstance(request_id, str) else None)
        return _wrapped(handler, _Around(self._gate, handler_call_details.method, handler, call))


class _Around:
    """What happens before and after one call."""

    def __init__(self, gate: Gate, path: str, handler: Handler, call: Call) -> None:
        self._gate = gate
        self._service, self._method = path.strip("/").split("/", 1)
        self._own = self._service.startswith(_OWN_PACKAGE)
        self._call = call
        kind = f"{_side(handler.request_streaming)}_{_side(handler.response_streaming)}"
        names = {"unary_unary": "unary", "stream_unary": "client_stream"}
        names |= {"unary_stream": "server_stream", "stream_stream": "bidi_stream"}
        self._labels = (names[kind], self._service, self._method)

    def received(self, data: bytes) -> None:
        self._call.received_bytes += len(data)
        metrics.RECEIVED_BYTES.labels(self._method).inc(len(data))

    def sent(self, data: bytes) -> None:
        self._call.sent_bytes += len(data)
        metrics.SENT_BYTES.labels(self._method).inc(len(data))

    @asynccontextmanager
    async def __call__(self, context: Context) -> AsyncIterator[None]:
        started = time.monotonic()
        metrics.CALLS_STARTED.labels(*self._labels).inc()
        metrics.CALLS_RUNNING.labels(self._method).inc()
        context.set_trailing_metadata(((REQUEST_ID_KEY, self._call.request_id),))
        code = grpc.StatusCode.UNKNOWN
        reason: str | None = None
        entered = False
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
            if late is not None and late <= 0:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise
        except grpc.aio.AbortError:
            # A library's servicer (reflection) that chose its status itself.
            code = _CODES.get(cast(int, context.code()), grpc.StatusCode.UNKNOWN)
            raise
        except Exception:
            log.exception("unexpected error", method=self._method, request_id=self._call.request_id)
            error = ServerSideError(
                f"internal error; its details are in the log at request id {self._call.request_id}"
            )
            code, reason = error.code, error.reason
            await self._abort(context, error)
        finally:
            if entered:
                self._gate.leave()
            seconds = time.monotonic() - started
            metrics.CALLS_RUNNING.labels(self._method).dec()
            metrics.CALLS_HANDLED.labels(*self._labels, code.name).inc()
            metrics.CALL_SECONDS.labels(*self._labels).observe(seconds)
            self._log(context, code, reason, seconds)

    async def _abort(self, context: Context, error: ServiceError) -> None:
        status = refusal(error, self._call.request_id)
        await context.abort(
            status.code,
            status.details,
            (*status.trailing_metadata, (REQUEST_ID_KEY, self._call.request_id)),
        )

    def _log(
        self, context: Context, code: grpc.StatusCode, reason: str | None, seconds: float
    ) -> None:
        call = self._call
        facts: dict[str, object] = {
            "method": f"{self._service}/{self._method}",
            "code": code.name,
            "seconds": round(seconds, 6),
            "peer": context.peer(),
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
        # Health checks come every few seconds from every load balancer.
        (log.info if self._own else log.debug)("call", **facts)


def _wrapped(handler: Handler, around: _Around) -> Handler:
    if handler.response_streaming:
        answers = cast(Answers, handler.stream_stream or handler.unary_stream)

        async def stream(request: object, context: Context) -> AsyncIterator[Message]:
            async with around(context), aclosing(_generator(answers(request, context))) as responses:
                async for response in responses:
                    yield response

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return cast(Handler, make(stream, *_counted(handler, around)))  # type: ignore[arg-type]

    answer = cast(Answer, handler.stream_unary or handler.unary_unary)

    async def single(request: object, context: Context) -> Message:
        async with around(context):
            return await answer(request, context)
        raise AssertionError("unreachable: a call that failed was aborted")

    make_single = (
        grpc.stream_unary_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return cast(Handler, make_single(single, *_counted(handler, around)))  # type: ignore[arg-type]


async def _generator(responses: AsyncIterator[Message]) -> "AsyncGenerator[Message, None]":
    async for response in responses:
        yield response


def _counted(handler: Handler, around: _Around):
    parse, serialize = handler.request_deserializer, handler.response_serializer

    def counted_parse(data: bytes) -> Message:
        around.received(data)
        return parse(data)

    def counted_serialize(message: Message) -> bytes:
        data = serialize(message)
        around.sent(data)
        return data

    return counted_parse, counted_serialize


def _side(streaming: bool) -> str:
    return "stream" if streaming else "unary"
