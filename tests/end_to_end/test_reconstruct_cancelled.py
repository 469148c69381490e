"""A call that ends early stops all its work at once, and leaves nothing behind."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc

from tests.support.messages import LOOK
from tests.support.reconstruct import requests
from tests.support.service_process import ServiceProcess, wait_for

CALLS = 20

Messages = Callable[[], Iterator[pb.ReconstructVideoRequest]]


@pytest.fixture
def never_ending(example_film: Path) -> Iterator[Messages]:
    """Makes streams of requests that stop in the middle of the film, until the test is over."""
    over = threading.Event()
    film = example_film.read_bytes()

    def messages() -> Iterator[pb.ReconstructVideoRequest]:
        settings = pb.ReconstructVideoSettings(
            rendition=LOOK(layout=LOOK.LAYOUT_SIDE_BY_SIDE, picture_size=LOOK.PICTURE_SIZE_SOURCE),
            include_latents=True,
        )
        yield from requests(film[: len(film) // 2], settings)
        over.wait()

    yield messages
    over.set()


def running(service: ServiceProcess) -> float:
    return service.metric("refilm_reconstructions_running")


def wait_until_idle(service: ServiceProcess) -> None:
    """Wait until no reconstruction runs, and see that none holds anything."""
    wait_for(lambda: running(service) == 0, "the end of all reconstructions", seconds=20)
    assert service.metric("refilm_frames_in_flight") == 0
    assert service.metric("refilm_frames_waiting") == 0
    assert service.metric("refilm_spool_bytes") == 0
    assert service.metric("refilm_reconstruction_queue_frames") == 0


def test_cancelled_calls_leave_no_thread_and_no_file(
    service: ServiceProcess, never_ending: Messages
) -> None:
    process = psutil.Process(service.process.pid)

    def cancel_one(after: int, *, cut: bool) -> None:
        with service.connect() as channel:
            stub = pb_grpc.AutoencoderServiceStub(channel)
            call = stub.ReconstructVideo(never_ending())
            for _ in range(after):
                next(call)
            if not cut:
                call.cancel()
        # Leaving the block closes the connection under a call that was not cancelled.

    for after in (1, 12):
        cancel_one(after, cut=False)
    wait_until_idle(service)
    threads, files = process.num_threads(), process.num_fds()

    for number in range(CALLS):
        cancel_one(number % 10, cut=bool(number % 2))

    wait_until_idle(service)
    # gRPC's own threads come and go; one thread or file a call would be far more.
    few = CALLS // 4
    wait_for(lambda: process.num_threads() < threads + few, "the end of threads", seconds=20)
    wait_for(lambda: process.num_fds() < files + few, "the end of files", seconds=20)


def test_a_deadline_stops_the_processing(service: ServiceProcess, never_ending: Messages) -> None:
    with service.connect() as channel:
        stub = pb_grpc.AutoencoderServiceStub(channel)
        with pytest.raises(grpc.RpcError) as ended:
            for _ in stub.ReconstructVideo(never_ending(), timeout=2):
                pass

    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until_idle(service)


def test_a_caller_who_does_not_read_can_still_cancel(
    service: ServiceProcess, example_film: Path
) -> None:
    film = example_film.read_bytes()
    written = threading.Event()

    def everything() -> Iterator[pb.ReconstructVideoRequest]:
        yield from requests(film)
        written.set()

    with service.connect() as channel:
        call = pb_grpc.AutoencoderServiceStub(channel).ReconstructVideo(everything())
        assert written.wait(60)
        # The pipeline fills up to where it waits for this caller.
        wait_for(
            lambda: service.metric("refilm_reconstruction_queue_frames", stage="model") > 0,
            "frames that wait",
        )
        call.cancel()

    wait_until_idle(service)
