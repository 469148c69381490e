"""Limits are refusals with a delay or a reason, never a slow death."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc

from tests.support.reconstruct import Answer, call, read_film, reconstruct, requests
from tests.support.service_process import ServiceProcess

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
FILM_BYTES = 2 * 2**20
IDLE_SECONDS = 1.0


@pytest.fixture(scope="module")
def narrow(
    service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A service with room for little, in front of the same Triton."""
    settings = {
        "REFILM_TRITON_ADDRESS": service.triton_address,
        "REFILM_MAX_RECONSTRUCTIONS": "2",
        "REFILM_SPOOL_FILM_BYTES": str(FILM_BYTES),
        "REFILM_SPOOL_TOTAL_BYTES": str(FILM_BYTES * 3 // 2),
    }
    with ServiceProcess(tmp_path_factory.mktemp("narrow"), [], settings) as process:
        process.wait_until_serving()
        yield process


@pytest.fixture(scope="module")
def impatient(
    service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A service that gives up soon on callers who send nothing, in front of the same Triton."""
    settings = {
        "REFILM_TRITON_ADDRESS": service.triton_address,
        "REFILM_IDLE_SECONDS": str(IDLE_SECONDS),
    }
    with ServiceProcess(tmp_path_factory.mktemp("impatient"), [], settings) as process:
        process.wait_until_serving()
        yield process


@contextmanager
def held(service: ServiceProcess, beginning: bytes) -> Iterator[None]:
    """A call that has sent the beginning of a film, got its facts, and goes no further."""
    over = threading.Event()

    def messages() -> Iterator[pb.ReconstructVideoRequest]:
        yield from requests(beginning)
        over.wait()

    with service.connect() as channel:
        responses = pb_grpc.AutoencoderServiceStub(channel).ReconstructVideo(messages())
        assert next(responses).WhichOneof("payload") == "facts"
        try:
            yield
        finally:
            responses.cancel()
            over.set()


def retry_seconds(answer: Answer) -> float:
    delay = answer.detail(error_details_pb2.RetryInfo)
    assert isinstance(delay, error_details_pb2.RetryInfo)
    return delay.retry_delay.ToTimedelta().total_seconds()


def test_a_film_larger_than_one_may_be_is_refused(
    narrow: ServiceProcess, example_film: Path
) -> None:
    with narrow.connect() as channel:
        sent = reconstruct(channel, example_film)
        announced = call(
            channel,
            [
                pb.ReconstructVideoRequest(
                    settings=pb.ReconstructVideoSettings(film_size_bytes=FILM_BYTES + 1)
                )
            ],
        )

    for answer in (sent, announced):
        assert (answer.code, answer.reason) == (EXHAUSTED, "FILM_TOO_LARGE")
        with pytest.raises(AssertionError, match="no RetryInfo"):
            answer.detail(error_details_pb2.RetryInfo)


def test_a_full_spool_is_refused_until_there_is_room(
    narrow: ServiceProcess, example_film: Path
) -> None:
    most = example_film.read_bytes()[: FILM_BYTES - 1]
    with narrow.connect() as channel:
        with held(narrow, most):
            full = reconstruct(channel, most)
        assert (full.code, full.reason) == (EXHAUSTED, "SPOOL_FULL")
        assert retry_seconds(full) > 0

        later = _until_admitted(channel, most)

    # There is room again; the film is still one that is truncated.
    assert (later.code, later.reason) == (grpc.StatusCode.DATA_LOSS, "FILM_TRUNCATED")


def test_more_films_at_once_than_allowed_are_refused_at_once(
    narrow: ServiceProcess, example_film: Path
) -> None:
    beginning = example_film.read_bytes()[: FILM_BYTES // 4]
    with narrow.connect() as channel:
        with held(narrow, beginning), held(narrow, beginning):
            third = reconstruct(channel, beginning)
        assert (third.code, third.reason) == (EXHAUSTED, "TOO_MANY_RECONSTRUCTIONS")
        assert retry_seconds(third) > 0
        assert third.order == []

        later = _until_admitted(channel, beginning)

    assert later.code is grpc.StatusCode.DATA_LOSS


def _until_admitted(channel: grpc.Channel, film: bytes) -> Answer:
    """Try until what a call before has left behind is gone."""
    while (answer := reconstruct(channel, film)).code is EXHAUSTED:
        pass
    return answer


@pytest.mark.parametrize("part", ["nothing", "settings", "half"])
def test_a_caller_who_sends_nothing_more_is_ended(
    part: str, impatient: ServiceProcess, example_film: Path
) -> None:
    film = example_film.read_bytes()
    over = threading.Event()

    def messages() -> Iterator[pb.ReconstructVideoRequest]:
        if part != "nothing":
            yield from requests(film[: len(film) // 2] if part == "half" else b"")
        over.wait()

    with impatient.connect() as channel:
        answer = call(channel, messages())
        over.set()

    assert (answer.code, answer.reason) == (grpc.StatusCode.ABORTED, "CALLER_IDLE")
    if part == "half":
        assert len(read_film(answer.output, pictures=False).times) > 100


def test_a_caller_who_reads_slowly_is_not_idle(
    impatient: ServiceProcess, example_film: Path
) -> None:
    answer = Answer()
    with impatient.connect() as channel:
        stub = pb_grpc.AutoencoderServiceStub(channel)
        responses = stub.ReconstructVideo(requests(example_film.read_bytes()))
        answer.take(next(responses))
        # Longer than the service waits for bytes, of which none is missing here.
        threading.Event().wait(3 * IDLE_SECONDS)
        for response in responses:
            answer.take(response)

    assert answer.summary is not None and answer.summary.frames == 1440
