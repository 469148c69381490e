# Made of refilm/aio/_client.py by `make proto`: edit that.
"""The client, assembled from its parts."""

from __future__ import annotations

from types import TracebackType

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from refilm._films import FilmCalls
from refilm._frames import FrameCalls
from refilm._jobs import JobCalls
from refilm._questions import QuestionCalls
from refilm._reconstruct import ReconstructionCalls
from refilm._stored_latents import StoredLatentsCalls
from refilm._transfers import TransferCalls
from refilm._transport import Transport
from refilm._watch import WatchCalls

_HEALTH_WORDS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class Client(
    FrameCalls,
    ReconstructionCalls,
    WatchCalls,
    FilmCalls,
    TransferCalls,
    JobCalls,
    StoredLatentsCalls,
    QuestionCalls,
):
    """Calls a Refilm service over one open connection; safe to share, and meant to be shared.

    Use it in a `with` block (`async with` for the asynchronous one), or close it.

    Unary calls that are safe to repeat are retried when the service is unavailable or overloaded,
    up to five times, after the delay that the service asks for if it does; so are calls that
    stream a response, until its first message has arrived. Interrupted uploads and downloads are
    resumed. Streams that the caller sends are not retried: they may be half consumed. Every call
    has a deadline.

    Films and what belongs to them are given by value or by name, "films/{film}". Times are seconds
    from a film's first frame: a float, a Fraction or a timedelta as argument, a float in results.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = 30.0,
        stream_timeout: float = 12 * 3600.0,
    ) -> None:
        """Configures the connection, which the first call opens.

        Args:
            address: "host:port", or any other target that gRPC knows.
            credentials: `grpc.ssl_channel_credentials(...)` for TLS; None for plain text.
            timeout: Seconds that a unary call may take, including all retries.
            stream_timeout: Seconds that a stream, a reconstruction, an upload or a download may
                take. A call's own `timeout` overrides these; `math.inf` means no deadline.
        """
        super().__init__(Transport(address, credentials, timeout, stream_timeout))
        # These two wrappers have the wire format of grpc.health.v1's two messages, so health
        # needs no further package.
        self._check = self._transport.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Int32Value.FromString,
        )

    def __repr__(self) -> str:
        return f"Client({self._transport.address!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection and cancels running calls."""
        self._transport.close()

    def health(self, service: str = "", *, timeout: float | None = None) -> str:
        """Asks whether the service can answer: "SERVING" or "NOT_SERVING".

        Args:
            service: One service's full name, for example "refilm.v1.AutoencoderService"; empty
                for all together.
            timeout: Seconds; None for the client's.

        Raises:
            NotFoundError: There is no such service.
            RefilmError: The call failed for another reason.
        """
        answer = self._transport.unary(self._check, StringValue(value=service), timeout)
        return _HEALTH_WORDS.get(answer.value, "UNKNOWN")
