"""The connection to Triton, and the translation of its errors."""

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
"""Retry delay when Triton is unreachable; a local one has restarted by then."""

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Reconnect to a restarted Triton at once, not after gRPC's backoff of two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),
]

_LOST_PROCESS = "Stub process"
"""In the Python backend's error when a model's stub process died, or did not respond for a second,
which happens on a loaded machine. Triton does not restart it."""


class ModelProcessLostError(UnavailableError):
    """A model's stub process is lost, and Triton keeps running without it."""


def connect(address: str) -> InferenceServerClient:
    """Return a client of the Triton at `address`: host:port, or unix:PATH; connects when used."""
    return InferenceServerClient(url=address, channel_args=_CHANNEL_OPTIONS)


def status_of(error: InferenceServerException) -> grpc.StatusCode:
    """Return the gRPC status code that Triton (or the channel) returned."""
    name = (error.status() or "").removeprefix("StatusCode.")
    return grpc.StatusCode.__members__.get(name, grpc.StatusCode.UNKNOWN)


def service_error(error: InferenceServerException) -> ServiceError:
    """Return the error for the caller; Triton's message (addresses, paths) stays in the log."""
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
            # Triton has no status code for it.
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
