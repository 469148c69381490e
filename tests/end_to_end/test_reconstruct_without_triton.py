"""Triton ends in the middle of a film: the film waits for it, but not forever."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc

from tests.support.reconstruct import Answer, read_film, requests
from tests.support.service_process import ServiceProcess


@pytest.fixture
def own_service(tmp_path: Path, model_repository: Path) -> Iterator[ServiceProcess]:
    """A service whose Triton may be killed."""
    with ServiceProcess(tmp_path / "own", [model_repository]) as process:
        process.wait_until_serving()
        yield process


def reconstruct_with(
    service: ServiceProcess, film: bytes, in_the_middle: Callable[[], object]
) -> Answer:
    """Reconstruct a film; its second half is sent after `in_the_middle` was called."""
    half = len(film) // 2
    begun = threading.Event()

    def messages() -> Iterator[pb.ReconstructVideoRequest]:
        yield from requests(film[:half])
        assert begun.wait(60)
        in_the_middle()
        yield from list(requests(film[half:]))[1:]

    answer = Answer()
    with service.connect() as channel:
        try:
            stub = pb_grpc.AutoencoderServiceStub(channel)
            for response in stub.ReconstructVideo(messages(), timeout=120):
                answer.take(response)
                if len(answer.output) > 100_000:  # Several fragments.
                    begun.set()
        except grpc.RpcError as error:
            answer.error = error
    return answer


def test_a_film_resumes_after_triton_was_killed(
    own_service: ServiceProcess, example_film: Path
) -> None:
    answer = reconstruct_with(
        own_service, example_film.read_bytes(), lambda: own_service.triton().kill()
    )

    assert answer.error is None
    assert answer.summary is not None and answer.summary.frames == 1440
    assert len(read_film(answer.output, pictures=False).times) == 1440
    assert own_service.metric("refilm_triton_restarts_total") == 1


def kill_stubs(service: ServiceProcess) -> None:
    """Kill the processes that run the model; Triton itself lives, or ends over it."""
    for child in service.children():
        if "stub" in child.name():
            child.kill()


def test_a_film_resumes_after_the_model_s_processes_were_killed(
    own_service: ServiceProcess, example_film: Path
) -> None:
    answer = reconstruct_with(
        own_service, example_film.read_bytes(), lambda: kill_stubs(own_service)
    )

    assert answer.error is None
    assert answer.summary is not None and answer.summary.frames == 1440


def test_a_film_is_unavailable_once_triton_is_gone(
    own_service: ServiceProcess, tmp_path: Path, example_film: Path
) -> None:
    settings = {"REFILM_TRITON_ADDRESS": own_service.triton_address}
    with ServiceProcess(tmp_path / "far", [], settings) as far:
        far.wait_until_serving()
        answer = reconstruct_with(
            far, example_film.read_bytes(), lambda: own_service.stop(signal.SIGKILL)
        )

        assert answer.code is grpc.StatusCode.UNAVAILABLE
        delay = answer.detail(error_details_pb2.RetryInfo)
        assert isinstance(delay, error_details_pb2.RetryInfo)
        assert delay.retry_delay.ToTimedelta().total_seconds() > 0
        # What was made before is there, and can be played.
        assert len(read_film(answer.output, pictures=False).times) > 0
        assert far.metric("refilm_reconstructions_running") == 0
