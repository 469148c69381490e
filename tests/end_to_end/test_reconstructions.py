"""Reconstructions that nobody waits for: taken up by any replica, to their end."""

import itertools
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from refilm.v1 import library_pb2 as pb

from service.library import layout
from tests.film.clips import make_clip
from tests.support.messages import LOOK, model_of, selector
from tests.support.object_stores import LibraryStore
from tests.support.reconstruct import read_film
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.status import CallError, error_of
from tests.support.watching import LibraryFilms, Watching, watch

FRAMES = 1440
NO_SIZE: Any = 9
QUEUED = pb.RECONSTRUCTION_STATE_QUEUED
RUNNING = pb.RECONSTRUCTION_STATE_RUNNING
SUCCEEDED = pb.RECONSTRUCTION_STATE_SUCCEEDED
CANCELLED = pb.RECONSTRUCTION_STATE_CANCELLED


@pytest.fixture
def library(
    tmp_path: Path, library_store: LibraryStore, service: ServiceProcess
) -> Iterator[LibraryFilms]:
    with LibraryFilms(tmp_path, library_store, service.triton_address) as films:
        yield films


@pytest.fixture
def folder_library(
    tmp_path: Path, folder_store: LibraryStore, service: ServiceProcess
) -> Iterator[LibraryFilms]:
    folder_store.open().prepare()
    with LibraryFilms(tmp_path, folder_store, service.triton_address) as films:
        yield films


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, size=(64, 36), frames=24)
    return path.read_bytes()


class Calls:
    """The calls about reconstructions, on one service."""

    def __init__(self, library: LibraryFilms, service: ServiceProcess) -> None:
        self._stub = library.client(service).stub

    def start(self, film: str, **fields: Any) -> pb.Reconstruction:
        request = pb.StartReconstructionRequest(film=film, **fields)
        return self._stub.StartReconstruction(request, timeout=60).reconstruction

    def get(self, name: str) -> pb.Reconstruction:
        request = pb.GetReconstructionRequest(name=name)
        return self._stub.GetReconstruction(request, timeout=60).reconstruction

    def cancel(self, name: str) -> pb.Reconstruction:
        request = pb.CancelReconstructionRequest(name=name)
        return self._stub.CancelReconstruction(request, timeout=60).reconstruction

    def watch(self, name: str) -> Iterator[pb.Reconstruction]:
        """Yield how a reconstruction stands, until it has ended."""
        request = pb.WatchReconstructionRequest(reconstruction=name)
        for response in self._stub.WatchReconstruction(request, timeout=120):
            assert response.WhichOneof("payload") == "reconstruction"
            yield response.reconstruction

    def list(self, parent: str, page_size: int = 0) -> list[list[str]]:
        """Return the names on each page."""
        pages, token = [], ""
        while True:
            request = pb.ListReconstructionsRequest(
                parent=parent, page_size=page_size, page_token=token
            )
            page = self._stub.ListReconstructions(request, timeout=60)
            pages.append([reconstruction.name for reconstruction in page.reconstructions])
            token = page.next_page_token
            if not token:
                return pages

    def wait_for(self, name: str, state: pb.ReconstructionState.ValueType) -> pb.Reconstruction:
        def look() -> pb.Reconstruction | None:
            found = self.get(name)
            return found if found.state == state else None

        return wait_for(look, pb.ReconstructionState.Name(state))

    def wait_for_frames(self, name: str, more_than: int = 0) -> pb.Reconstruction:
        def look() -> pb.Reconstruction | None:
            found = self.get(name)
            return found if found.frames > more_than else None

        return wait_for(look, f"more than {more_than} frames")


def encoded(service: ServiceProcess) -> float:
    return service.metric("refilm_frames_encoded_total")


def test_a_started_reconstruction_survives_its_service(
    library: LibraryFilms, example_film: Path
) -> None:
    name = library.add(example_film.read_bytes())
    one = library.serve()
    calls = Calls(library, one)
    job = calls.start(name, settings=LOOK(layout=LOOK.LAYOUT_RECONSTRUCTION))
    assert job.state in (QUEUED, RUNNING)
    assert (job.estimated_frames, model_of(job.model)[0]) == (FRAMES, "pca")
    assert job.settings.quality == LOOK.QUALITY_STANDARD
    assert job.HasField("create_time") and not job.HasField("end_time")
    running = calls.wait_for_frames(job.name)
    assert running.state == RUNNING
    assert 0 < running.frames < FRAMES
    assert 0 < running.position.seconds + running.position.nanos / 1e9 < 60
    kept = library.segments(name)

    # Killed, then asked nothing: another one finishes it by itself.
    one.stop(signal.SIGKILL)
    two = library.serve()
    wait_for(lambda: library.keys("pending/") == [], "the job's end without a call")

    calls = Calls(library, two)
    done = calls.get(job.name)
    assert done.state == SUCCEEDED
    assert done.frames == done.estimated_frames == FRAMES
    assert done.HasField("end_time") and not done.HasField("fault")
    assert 0 < encoded(two) < FRAMES
    counted = encoded(two)
    answer = watch(two, name)
    assert answer.summary is not None and answer.summary.rendition == done.rendition
    assert all(data in answer.output for data in kept.values())
    assert encoded(two) == counted
    assert two.metric("refilm_jobs_ended_total", state="succeeded") == 1

    # What exists is done at once, and what has ended stays as it is.
    again = calls.start(name)
    assert (again.state, again.rendition) == (SUCCEEDED, done.rendition)
    assert calls.cancel(again.name).state == SUCCEEDED


def test_a_draining_service_releases_its_jobs(
    folder_library: LibraryFilms, example_film: Path
) -> None:
    library = folder_library
    name = library.add(example_film.read_bytes())
    # With a lease this long, only one that was given back lets another one begin.
    one, two = (library.serve(REFILM_LEASE_SECONDS="600") for _ in range(2))
    job = Calls(library, one).start(name)
    Calls(library, one).wait_for_frames(job.name)
    worker, other = (one, two) if encoded(one) else (two, one)
    assert encoded(other) == 0, "both work"

    assert worker.stop(signal.SIGTERM) == 0

    calls = Calls(library, other)
    frames = calls.get(job.name).frames
    assert frames < FRAMES
    assert calls.wait_for(job.name, SUCCEEDED).frames == FRAMES
    assert encoded(other) == FRAMES - frames


def test_a_reconstruction_is_cancelled_from_any_replica(
    folder_library: LibraryFilms, example_film: Path
) -> None:
    library = folder_library
    name = library.add(example_film.read_bytes())
    one, two = library.serve(), library.serve()
    job = Calls(library, one).start(name)
    Calls(library, one).wait_for_frames(job.name)
    worker = next(service for service in (one, two) if encoded(service))
    other = two if worker is one else one

    cancelled = Calls(library, other).cancel(job.name)

    assert cancelled.state == CANCELLED and cancelled.HasField("end_time")
    wait_for(lambda: not worker.metric("refilm_rendition_jobs_running"), "the job's end")
    assert encoded(other) == 0
    assert not library.keys("pending/")
    assert 0 < Calls(library, one).get(job.name).frames < FRAMES
    # Who wants it all the same continues from there.
    answer = watch(other, name)
    assert answer.summary is not None and answer.progress[-1].frames_reused > 0
    assert len(read_film(answer.output, pictures=False).times) == FRAMES
    assert Calls(library, one).get(job.name).state == CANCELLED


def test_a_watcher_keeps_a_cancelled_job_running(
    folder_library: LibraryFilms, example_film: Path
) -> None:
    library = folder_library
    name = library.add(example_film.read_bytes())
    service = library.serve()
    calls = Calls(library, service)
    job = calls.start(name)
    calls.wait_for_frames(job.name)
    watching = Watching(service, name)
    watching.wait_for(lambda answer: answer.output, "the film's beginning")
    calls.cancel(job.name)
    answer = watching.end()
    assert answer.error is None and answer.summary is not None
    assert encoded(service) == FRAMES


def test_who_waits_sees_it_through_its_states(folder_library: LibraryFilms, clip: bytes) -> None:
    library = folder_library
    calls = Calls(library, library.serve())
    job = calls.start(library.add(clip))
    seen = list(calls.watch(job.name))
    assert seen[-1].state == SUCCEEDED
    assert seen[-1] == calls.get(job.name)
    assert all(one.state in (QUEUED, RUNNING) for one in seen[:-1])
    assert all(one != other for one, other in itertools.pairwise(seen))
    # One that has ended is told once, at once.
    assert list(calls.watch(job.name)) == seen[-1:]


def test_who_waits_is_reported_when_it_is_cancelled_or_the_service_ends(
    folder_library: LibraryFilms, example_film: Path
) -> None:
    library = folder_library
    name = library.add(example_film.read_bytes())
    service = library.serve()
    calls = Calls(library, service)
    cancelled, kept = (
        calls.start(name),
        calls.start(name, settings=LOOK(layout=LOOK.LAYOUT_SIDE_BY_SIDE)),
    )
    waiting = calls.watch(cancelled.name)
    assert next(waiting).state in (QUEUED, RUNNING)
    calls.cancel(cancelled.name)
    *_, last = waiting
    assert (last.state, last.HasField("end_time")) == (CANCELLED, True)

    waiting = calls.watch(kept.name)
    assert next(waiting).state in (QUEUED, RUNNING)
    service.process.send_signal(signal.SIGTERM)
    error = error_of(lambda: list(waiting))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert error.retry_seconds == 1


def test_jobs_wait_for_a_place_and_leave_one_to_callers(
    folder_library: LibraryFilms, example_film: Path
) -> None:
    library = folder_library
    film = example_film.read_bytes()
    names = [library.add(film, f"film-{number}") for number in range(2)]
    service = library.serve(REFILM_MAX_RECONSTRUCTIONS="2")
    calls = Calls(library, service)
    first, second = (calls.start(name) for name in names)
    calls.wait_for_frames(first.name)
    assert calls.get(second.name).state == QUEUED
    wait_for(lambda: service.metric("refilm_jobs", state="queued") == 1, "the one that waits")
    assert service.metric("refilm_jobs", state="running") == 1
    # The place that is left is for who waits: the second film, and its job with it.
    watching = Watching(service, names[1])
    watching.wait_for(lambda answer: answer.output, "the second film's beginning")
    calls.wait_for(second.name, RUNNING)
    watching.leave()
    for job in (first, second):
        calls.wait_for(job.name, SUCCEEDED)


def test_the_same_request_is_the_same_reconstruction(
    folder_library: LibraryFilms, clip: bytes
) -> None:
    name = folder_library.add(clip)
    calls = Calls(folder_library, folder_library.serve())
    request_id = str(uuid.uuid4())
    job = calls.start(name, request_id=request_id)
    assert calls.start(name, request_id=request_id).name == job.name
    assert calls.start(name).name != job.name
    calls.wait_for(job.name, SUCCEEDED)
    assert calls.start(name, request_id=request_id).create_time == job.create_time

    settings = LOOK(quality=LOOK.QUALITY_HIGH)
    error = error_of(lambda: calls.start(name, request_id=request_id, settings=settings))
    assert (error.code, error.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_ID_REUSED",
    )
    assert error.fields == ["request_id"]


def test_reconstructions_are_listed_by_film_and_page(
    folder_library: LibraryFilms, clip: bytes
) -> None:
    library = folder_library
    films = [library.add(clip, f"film-{number}") for number in range(3)]
    calls = Calls(library, library.serve())
    started = sorted(calls.start(film).name for film in films for _ in range(3))

    assert calls.list("films/-") == [started]
    assert calls.list(films[1]) == [started[3:6]]
    for size in (1, 2, 3, 4, 9):
        pages = calls.list("films/-", size)
        assert [name for page in pages for name in page] == started
        assert all(len(page) <= size for page in pages)
    assert [name for page in calls.list(films[0], 2) for name in page] == started[:3]

    for name in started:
        calls.wait_for(name, SUCCEEDED)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda calls: calls.start("films/nothing"), ("NOT_FOUND", "FILM_NOT_FOUND")),
        (lambda calls: calls.start("nothing"), ("INVALID_ARGUMENT", "INVALID_NAME")),
        (lambda calls: calls.start(""), ("INVALID_ARGUMENT", "NAME_REQUIRED")),
        (
            lambda calls: calls.start("films/film", model=selector("nothing")),
            ("NOT_FOUND", "MODEL_NOT_FOUND"),
        ),
        (
            lambda calls: calls.start("films/film", settings=LOOK(picture_size=NO_SIZE)),
            ("INVALID_ARGUMENT", "INVALID_SETTING"),
        ),
        (
            lambda calls: calls.start("films/film", request_id="r" * 129),
            ("INVALID_ARGUMENT", "INVALID_REQUEST_ID"),
        ),
        (
            lambda calls: calls.get("films/film/reconstructions/0"),
            ("NOT_FOUND", "RECONSTRUCTION_NOT_FOUND"),
        ),
        (lambda calls: calls.cancel("films/film"), ("INVALID_ARGUMENT", "INVALID_NAME")),
        (lambda calls: calls.list("films/nothing"), ("NOT_FOUND", "FILM_NOT_FOUND")),
        (lambda calls: calls.list("films/-", -1), ("INVALID_ARGUMENT", "INVALID_PAGE_SIZE")),
    ],
)
def test_faulty_requests_are_refused(
    one_film: Calls, call: Callable[[Calls], object], expected: tuple[str, str]
) -> None:
    error: CallError = error_of(lambda: call(one_film))
    assert (error.code.name, error.reason) == expected


@pytest.fixture(scope="module")
def one_film(
    tmp_path_factory: pytest.TempPathFactory, service: ServiceProcess, clip: bytes
) -> Iterator[Calls]:
    folder = tmp_path_factory.mktemp("one_film")
    kept = LibraryStore({"REFILM_STORAGE_DIRECTORY": str(folder / "library")})
    kept.open().prepare()
    with LibraryFilms(folder, kept, service.triton_address) as library:
        library.add(clip)
        yield Calls(library, library.serve())


def test_a_film_that_is_deleted_takes_its_reconstructions_along(
    folder_library: LibraryFilms, example_film: Path
) -> None:
    library = folder_library
    name = library.add(example_film.read_bytes())
    service = library.serve()
    calls = Calls(library, service)
    job = calls.start(name)
    calls.wait_for_frames(job.name)

    library.client(service).delete(name)

    error = error_of(lambda: calls.get(job.name))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")
    assert calls.list("films/-") == [[]]
    wait_for(lambda: not service.metric("refilm_rendition_jobs_running"), "the job's end")
    wait_for(lambda: library.keys() == [layout.deleted("film")], "an empty store", 30)
