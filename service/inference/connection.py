"""The connection to Triton, and what its errors mean to a caller."""

import grpc
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service.errors import (
    LateError,
    OverloadedError,
    ServerSideError,
    ServiceError,
    UnavailableError,
)

RETRY_AFTER_SECONDS = 1.0
"""When a caller should try again after Triton could not be reached: a local one is back by then."""

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A Triton that was restarted must be found again at once, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),
]

_LOST_PROCESS = "Stub process"
"""What Triton's Python backend names when a model's own process died, or gave no sign of life for a
second, which a loaded machine can bring about. It does not start it again by itself."""


class ModelProcessLostError(UnavailableError):
    """The process that ran a model is lost to a Triton that goes on without it."""


def connect(address: str) -> InferenceServerClient:
    """Return a client of the Triton at `address`: host:port, or unix:PATH; connects when used."""
    return InferenceServerClient(url=address, channel_args=_CHANNEL_OPTIONS)


def status_of(error: InferenceServerException) -> grpc.StatusCode:
    """Return the gRPC status code that Triton (or the channel) answered with."""
    name = (error.status() or "").removeprefix("StatusCode.")
    return grpc.StatusCode.__members__.get(name, grpc.StatusCode.UNKNOWN)


def service_error(error: InferenceServerException) -> ServiceError:
    """Return what a caller is told; Triton's own words (addresses, paths) stay in the log."""
    match status_of(error):
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.UNKNOWN:
            return UnavailableError(
                "the inference server cannot be reached; try again", retry_after=RETRY_AFTER_SECONDS
            )
        case grpc.StatusCode.NOT_FOUND:
            return UnavailableError(
                "the inference server does not have this model version ready now; try again",
                reason="MODEL_NOT_READY",
                retry_after=RETRY_AFTER_SECONDS,
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OverloadedError(
                "the inference server is overloaded; try again", retry_after=RETRY_AFTER_SECONDS
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            # It has none of its own.
            return LateError(
                "the call's deadline came before the model had answered; allow it more time"
            )
        case _ if _LOST_PROCESS in (error.message() or ""):
            return ModelProcessLostError(
                "the process that ran the model ended, or did not answer; try again",
                retry_after=RETRY_AFTER_SECONDS,
            )
        case _:
            return ServerSideError("the model failed on this input", reason="INFERENCE_FAILED")
