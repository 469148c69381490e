"""Works on films of the library are shared: by callers of one service, and by replicas."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from refilm.v1 import autoencoder_pb2 as pb

from tests.support.object_stores import LibraryStore
from tests.support.reconstruct import Answer, read_film, requests
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.watching import LibraryFilms, Watching, watch

FRAMES = 1440
SEGMENTS = 7
"""Of the example film: 2 s, and six times up to 10 s."""


@pytest.fixture
def folder_library(
    tmp_path: Path, folder_store: LibraryStore, service: ServiceProcess
) -> Iterator[LibraryFilms]:
    folder_store.open().prepare()
    with LibraryFilms(tmp_path, folder_store, service.triton_address) as films:
        yield films


@pytest.fixture
def library(
    tmp_path: Path, library_store: LibraryStore, service: ServiceProcess
) -> Iterator[LibraryFilms]:
    with LibraryFilms(tmp_path, library_store, service.triton_address) as films:
        yield films


def encoded(*services: ServiceProcess) -> float:
    return sum(service.metric("refilm_frames_encoded_total") for service in services)


def segments(service: ServiceProcess, kind: str) -> float:
    return service.metric("refilm_segments_total", kind=kind)


def works(service: ServiceProcess) -> float:
    return service.metric("refilm_rendition_jobs_running")


def begun(answer: Answer) -> bool:
    return bool(answer.output)


def test_callers_share_a_job_until_the_last_one_leaves(
    folder_library: LibraryFilms, example_film: Path
) -> None:
    library = folder_library
    name = library.add(example_film.read_bytes())
    service = library.serve(REFILM_MAX_RECONSTRUCTIONS="1")
    other = library.add(example_film.read_bytes(), "other")

    first, second = Watching(service, name), Watching(service, name)
    first.wait_for(begun, "the first one's film")
    second.wait_for(begun, "the second one's film")
    assert works(service) == 1

    # No room for other films, sent or kept; this one can be joined all the same.
    refused = watch(service, other)
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_RECONSTRUCTIONS",
    )
    refused.detail(error_details_pb2.RetryInfo)

    assert first.leave().code is grpc.StatusCode.CANCELLED
    have = len(second.answer.output)
    second.wait_for(lambda answer: len(answer.output) > have, "more for the one who stayed")
    assert second.leave().code is grpc.StatusCode.CANCELLED
    wait_for(lambda: not works(service), "the job's end")
    made = segments(service, "made")
    assert 0 < made < SEGMENTS

    # Its segments are there for whoever asks next.
    kept = library.segments(name)
    answer = watch(service, name)
    assert answer.error is None and answer.summary is not None
    assert answer.progress[-1].frames_reused > 0
    assert segments(service, "reused") >= made
    assert segments(service, "made") == SEGMENTS
    assert all(data in answer.output for data in kept.values())
    assert len(read_film(answer.output, pictures=False).times) == FRAMES

    # While it is whole, it takes no room.
    beginning = example_film.read_bytes()[:500_000]
    with service.connect() as channel:
        held = Held(channel, beginning)
        assert watch(service, name).output == answer.output
        held.leave()


class Held:
    """A call that sends the beginning of a film, and no more."""

    def __init__(self, channel: grpc.Channel, beginning: bytes) -> None:
        self._messages = _Messages(list(requests(beginning)))
        stub = channel.stream_stream(
            "/refilm.v1.AutoencoderService/ReconstructVideo",
            pb.ReconstructVideoRequest.SerializeToString,
            pb.ReconstructVideoResponse.FromString,
        )
        self._call = stub(self._messages)
        assert next(self._call).WhichOneof("payload") == "facts"

    def leave(self) -> None:
        self._call.cancel()


class _Messages:
    """Some messages, and then none, forever."""

    def __init__(self, messages: list[pb.ReconstructVideoRequest]) -> None:
        self._messages = iter(messages)
        self._never = threading.Event()

    def __iter__(self) -> Iterator[pb.ReconstructVideoRequest]:
        return self

    def __next__(self) -> pb.ReconstructVideoRequest:
        for message in self._messages:
            return message
        self._never.wait(60)
        raise StopIteration


def test_replicas_share_a_job_and_take_it_over(library: LibraryFilms, example_film: Path) -> None:
    name = library.add(example_film.read_bytes())
    one, two = library.serve(), library.serve()

    at_one = Watching(one, name)
    at_one.wait_for(begun, "the film at the first replica")
    at_two = Watching(two, name, include_latents=True)
    at_two.wait_for(begun, "the film at the second replica")
    assert encoded(two) == 0, "both work"
    one.stop(signal.SIGKILL)
    assert at_one.end().code is grpc.StatusCode.UNAVAILABLE

    answer = at_two.end()

    assert answer.error is None and answer.summary is not None
    assert answer.summary.frames == FRAMES
    assert 0 < encoded(two) < FRAMES
    assert len(answer.pts) == FRAMES and len(answer.latents) == FRAMES * 200
    assert answer.output.startswith(at_one.answer.output)
    film = read_film(answer.output, pictures=False)
    assert len(film.times) == FRAMES and film.times == sorted(film.times)
    assert watch(two, name).output == answer.output


def test_a_replica_that_slept_too_long_loses_its_lease(
    folder_library: LibraryFilms, example_film: Path
) -> None:
    library = folder_library
    name = library.add(example_film.read_bytes())
    one, two = library.serve(), library.serve()
    at_one = Watching(one, name)
    at_one.wait_for(begun, "the film at the first replica")
    whole = len(library.records(name))
    one.process.send_signal(signal.SIGSTOP)
    at_two = Watching(two, name)
    library.wait_for_segments(name, whole + 1)
    one.process.send_signal(signal.SIGCONT)

    answers = [at_one.end(), at_two.end()]

    for answer in answers:
        assert answer.error is None and answer.summary is not None
        times = read_film(answer.output, pictures=False).times
        assert len(times) == FRAMES and times == sorted(times)
    assert one.log_lines("another replica has taken over")
    assert 0 < encoded(two) < FRAMES
    # What the sleeper had in progress was in vain; it began nothing new.
    assert encoded(one, two) < FRAMES * 3 / 2
    assert watch(one, name).output == watch(two, name).output


def test_a_film_that_is_deleted_in_the_middle_is_gone_everywhere(
    library: LibraryFilms, example_film: Path
) -> None:
    name = library.add(example_film.read_bytes())
    one, two = library.serve(), library.serve()
    at_one = Watching(one, name)
    at_one.wait_for(begun, "the film at the first replica")
    at_two = Watching(two, name)
    at_two.wait_for(begun, "the film at the second replica")

    library.client(two).delete(name)

    for answer in (at_two.end(), at_one.end()):
        assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")
    for service in (one, two):
        assert watch(service, name).code is grpc.StatusCode.NOT_FOUND
        wait_for(lambda service=service: not works(service), "the job's end")
    assert library.keys() == ["deleted/film.json"]
