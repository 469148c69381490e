"""Reconstructions of library films live through kill -9: of the service, and of the S3 server."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.kills import Kills, killing
from tests.support.object_stores import LibraryStore, new_bucket
from tests.support.reconstruct import read_film
from tests.support.s3_server import S3Server
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.watching import LibraryFilms, Watching, watch

FRAMES = 1440
SEGMENTS = 7
"""Of the example film: 2 s, and six times up to 10 s."""


@pytest.fixture
def library(
    tmp_path: Path, library_store: LibraryStore, service: ServiceProcess
) -> Iterator[LibraryFilms]:
    with LibraryFilms(tmp_path, library_store, service.triton_address) as films:
        yield films


@killing
def test_the_service_is_killed_and_goes_on(
    library: LibraryFilms, example_film: Path, tmp_path: Path
) -> None:
    """Each round kills at another place; what was whole before is the same, to the byte, after."""
    film = example_film.read_bytes()
    reference = library.add(film, "reference")
    service = library.serve()
    uninterrupted = read_film(watch(service, reference).output)
    films, name = 0, ""
    kept: dict[str, bytes] = {}
    kills = Kills("kill -9 of the service during a reconstruction")
    for chance in kills:
        if not name:
            films += 1
            name, kept = library.add(film, f"film-{films}"), {}
        watching = Watching(service, name)
        _somewhere(library, watching, name, chance)
        service.stop(signal.SIGKILL)
        watching.end()
        now = library.segments(name)
        assert kept.items() <= now.items(), "a whole segment changed"
        kills.saw("whole segments" if now else "no whole segment")
        kept = now
        service = library.serve()
        if len(kept) >= SEGMENTS - 1:
            check(library, service, name, kept, uninterrupted.pictures)
            kills.saw("finished films")
            name = ""
    if name:
        check(library, service, name, kept, uninterrupted.pictures)


def _somewhere(library: LibraryFilms, watching: Watching, name: str, chance: random.Random) -> None:
    """Wait until one more segment is whole, and then for something small to happen."""

    def records() -> int:
        assert watching.answer.error is None, watching.answer.error
        return len(library.records(name))

    segments = min(records() + 1, SEGMENTS - 1)
    wait_for(lambda: records() >= segments, f"{segments} whole segments")
    objects = len(library.keys(name)) + chance.randrange(4)
    wait_for(
        lambda: len(library.keys(name)) >= objects or records() >= SEGMENTS,
        "more objects",
    )


def check(
    library: LibraryFilms,
    service: ServiceProcess,
    name: str,
    kept: dict[str, bytes],
    pictures: list[NDArray[np.uint8]],
) -> None:
    """Let a film be finished; it is whole, made of what was kept, and looks as without a kill."""
    frames = service.metric("refilm_frames_encoded_total")
    answer = watch(service, name, include_latents=True)
    assert answer.error is None and answer.summary is not None
    assert answer.summary.frames == FRAMES
    assert service.metric("refilm_frames_encoded_total") - frames < FRAMES
    after = library.segments(name)
    position = 0
    for key, data in kept.items():
        assert after[key] == data
        assert (position := answer.output.find(data, position)) >= 0
    made = read_film(answer.output)
    assert len(made.times) == FRAMES and made.times == sorted(made.times)
    assert len(answer.pts) == FRAMES
    for picture, expected in zip(made.pictures, pictures, strict=True):
        assert np.abs(picture.astype(np.int16) - expected).max() <= 1
    assert watch(service, name).output == answer.output


@killing
def test_the_s3_server_is_killed_and_the_film_goes_on(
    own_s3_server: S3Server, tmp_path: Path, service: ServiceProcess, example_film: Path
) -> None:
    kept = new_bucket(own_s3_server)
    kept.open().prepare()
    film = example_film.read_bytes()
    with LibraryFilms(tmp_path, kept, service.triton_address) as library:
        own = library.serve()
        films, name, watching = 0, "", None
        kills = Kills("kill -9 of the S3 gateway during a reconstruction")
        for chance in kills:
            if watching is None:
                films += 1
                name = library.add(film, f"film-{films}")
                watching = Watching(own, name)
            _somewhere(library, watching, name, chance)
            whole = len(library.records(name))
            own_s3_server.kill_gateway()
            own_s3_server.restart()
            kills.saw("whole segments" if whole else "no whole segment")
            if whole >= SEGMENTS - 1:
                finished(library, own, name, watching)
                watching = None
        if watching is not None:
            finished(library, own, name, watching)


def test_an_s3_server_that_is_long_away_only_holds_up_who_watches(
    own_s3_server: S3Server, tmp_path: Path, service: ServiceProcess, example_film: Path
) -> None:
    """For longer than one request is tried again; what was made before goes on as well."""
    kept = new_bucket(own_s3_server)
    kept.open().prepare()
    with LibraryFilms(tmp_path, kept, service.triton_address) as library:
        own = library.serve()
        name = library.add(example_film.read_bytes())
        whole = watch(own, name, include_latents=True)
        watching = Watching(own, name, paused_after="facts", include_latents=True)
        own_s3_server.kill_gateway()
        watching.go_on()
        wait_for(lambda: own.log_lines("the S3 server does not answer"), "a request given up")
        own_s3_server.restart()
        answer = watching.end()
    assert answer.error is None and answer.summary is not None
    assert answer.output == whole.output and answer.latents == whole.latents


def finished(library: LibraryFilms, service: ServiceProcess, name: str, watching: Watching) -> None:
    """The call that lived through it all got the whole film, and it is kept."""
    answer = watching.end()
    assert answer.error is None and answer.summary is not None
    assert len(read_film(answer.output, pictures=False).times) == FRAMES
    assert watch(service, name).output == answer.output
    assert [latents.frames for latents in library.client(service).get(name).latents] == [FRAMES]
