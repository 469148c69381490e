"""Films of the library: made once, kept, and streamed from the store from then on."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import grpc
import numpy as np
import pytest
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import library_pb2, library_pb2_grpc
from refilm.v1.library_pb2 import WatchedRendition as watched

from tests.film.clips import Track, make_clip
from tests.support.messages import LOOK, selector
from tests.support.object_stores import LibraryStore
from tests.support.reconstruct import Answer, call, read_film, reconstruct, requests
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.status import error_of
from tests.support.watching import LibraryFilms, watch

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNKNOWN: Any = 9
"""No value of an enum."""


@pytest.fixture
def library(
    tmp_path: Path, library_store: LibraryStore, service: ServiceProcess
) -> Iterator[LibraryFilms]:
    with LibraryFilms(tmp_path, library_store, service.triton_address) as films:
        yield films


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Fifteen seconds with sound: three segments."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, frames=360, sound=[Track()], movflags="faststart")
    return path.read_bytes()


def encoded(service: ServiceProcess) -> float:
    return service.metric("refilm_frames_encoded_total")


def test_a_film_of_the_library_is_reconstructed_as_one_that_is_sent(
    library: LibraryFilms, clip: bytes
) -> None:
    name = library.add(clip)
    service = library.serve()
    with service.connect() as channel:
        sent = reconstruct(channel, clip, include_latents=True)
    kept = watch(service, name, include_latents=True)

    assert kept.error is None and kept.summary is not None and sent.summary is not None
    assert (kept.film, kept.made) == (sent.film, sent.made)
    assert kept.pts == sent.pts
    np.testing.assert_allclose(kept.latents, sent.latents, atol=1e-4)
    expected, found = read_film(sent.output), read_film(kept.output)
    assert found.times == expected.times
    assert found.sounds == expected.sounds
    # Two encodings of the same pictures.
    for picture, same in zip(found.pictures[::30], expected.pictures[::30], strict=True):
        assert np.abs(picture.astype(int) - same).mean() < 2
    summary = kept.summary
    assert (summary.frames, summary.duration) == (360, sent.summary.duration)
    assert (summary.film, summary.film_digest) == (name, sent.summary.film_digest)
    assert summary.sent_bytes == len(kept.output)
    assert kept.progress[-1].frames_written == 360
    assert kept.progress[-1].frames_reused == 0

    film = library.client(service).get(name)
    (rendition,) = film.renditions
    assert rendition.name == summary.rendition
    assert (rendition.frames, rendition.size_bytes) == (360, len(kept.output))
    assert [latents.frames for latents in film.latents] == [360]
    assert library.client(service).download(rendition.name) == kept.output

    frames = encoded(service)
    again = watch(service, name, include_latents=True)
    assert again.output == kept.output
    assert (again.pts, again.latents) == (kept.pts, kept.latents)
    assert again.progress[-1].frames_reused == 360
    assert again.summary is not None and again.summary.rendition == summary.rendition
    assert encoded(service) == frames

    # Another rendition of the same film and model: its latents are kept once.
    other = watch(service, name, settings=LOOK(sound=LOOK.SOUND_NONE), include_latents=True)
    assert other.error is None and other.made is not None
    assert list(other.made.sound_track_actions) == [pb.SOUND_TRACK_ACTION_DROPPED]
    assert (other.pts, other.latents) == (kept.pts, kept.latents)
    assert not read_film(other.output).sounds
    film = library.client(service).get(name)
    assert (len(film.renditions), len(film.latents)) == (2, 1)


def test_a_film_that_is_sent_can_be_kept(library: LibraryFilms, clip: bytes) -> None:
    service = library.serve()
    with service.connect() as channel:
        sent = reconstruct(
            channel,
            clip,
            store=pb.StoreSettings(title="Kept", film_id="kept"),
            include_latents=True,
        )
        assert sent.error is None and sent.summary is not None
        assert sent.summary.film == "films/kept"
        frames = encoded(service)
        (film,) = library.client(service).all()
        assert (film.name, film.title, film.size_bytes) == ("films/kept", "Kept", len(clip))
        assert library.client(service).download("films/kept") == clip
        kept = watch(service, "films/kept", include_latents=True)
        assert kept.output == sent.output
        assert (kept.pts, kept.latents) == (sent.pts, sent.latents)
        assert kept.summary is not None and kept.summary.rendition == sent.summary.rendition
        assert encoded(service) == frames
        assert not library.keys("uploads/")

        taken = call(channel, requests(clip, settings(store=pb.StoreSettings(film_id="kept"))))
        assert taken.code is grpc.StatusCode.ALREADY_EXISTS
        assert (taken.reason, taken.output) == ("FILM_EXISTS", b"")


def test_of_a_film_that_is_truncated_nothing_is_kept(library: LibraryFilms, clip: bytes) -> None:
    service = library.serve()
    half = clip[: len(clip) * 3 // 4]
    with service.connect() as channel:
        broken = reconstruct(channel, half, store=pb.StoreSettings(film_id="broken"))
        assert (broken.code, broken.reason) == (grpc.StatusCode.DATA_LOSS, "FILM_TRUNCATED")
        assert len(read_film(broken.output).times) > 24
        # And of one whose caller leaves in the middle.
        answer = Answer()
        stub_call = service.stub.ReconstructVideo(
            endless(half, store=pb.StoreSettings(film_id="left")), timeout=60
        )
        for response in stub_call:
            if answer.take(response) == "chunk":
                break
        stub_call.cancel()
    wait_for(lambda: not library.keys(), "a store without anything", 30)
    assert not library.client(service).all()
    wait_for(lambda: not service.metric("refilm_reconstructions_running"), "the film's end")


def endless(film: bytes, **fields: Any) -> Iterator[pb.ReconstructVideoRequest]:
    yield from requests(film, settings(**fields))
    threading.Event().wait(60)


def settings(**fields: Any) -> pb.ReconstructVideoSettings:
    return pb.ReconstructVideoSettings(**fields)


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"rendition": LOOK(layout=UNKNOWN)}, "settings.rendition.layout", "INVALID_SETTING"),
        ({"store": pb.StoreSettings(film_id="No!")}, "settings.store.film_id", "INVALID_FILM_ID"),
        ({"store": pb.StoreSettings(title="T" * 201)}, "settings.store.title", "INVALID_TITLE"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_faulty_settings_are_refused(
    stored_clip: tuple[ServiceProcess, bytes], fields: dict[str, object], field: str, reason: str
) -> None:
    service, _ = stored_clip
    with service.connect() as channel:
        answer = call(channel, [pb.ReconstructVideoRequest(settings=settings(**fields))])
    assert (answer.code, answer.fields, answer.reason) == (INVALID, [field], reason)


@pytest.mark.parametrize(
    ("target", "field", "reason"),
    [
        ({}, "target", "TARGET_REQUIRED"),
        ({"rendition": watched()}, "rendition.film", "NAME_REQUIRED"),
        ({"rendition": watched(film="film")}, "rendition.film", "INVALID_NAME"),
        (
            {"rendition": watched(film="films/film", model=selector("../x"))},
            "rendition.model.name",
            "INVALID_NAME",
        ),
        (
            {"rendition": watched(film="films/film", settings=LOOK(layout=UNKNOWN))},
            "rendition.settings.layout",
            "INVALID_SETTING",
        ),
        ({"reconstruction": "films/film"}, "reconstruction", "INVALID_NAME"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_faulty_request_to_watch_is_refused(
    stored_clip: tuple[ServiceProcess, bytes], target: dict[str, Any], field: str, reason: str
) -> None:
    service, _ = stored_clip
    stub = library_pb2_grpc.LibraryServiceStub(service.channel)
    request = library_pb2.WatchReconstructionRequest(**target)
    error = error_of(lambda: list(stub.WatchReconstruction(request, timeout=60)))
    assert (error.code, error.fields, error.reason) == (INVALID, [field], reason)


@pytest.fixture(scope="module")
def stored_clip(
    tmp_path_factory: pytest.TempPathFactory, service: ServiceProcess, clip: bytes
) -> Iterator[tuple[ServiceProcess, bytes]]:
    """A service whose library, in a folder, holds films/film."""
    folder = tmp_path_factory.mktemp("stored")
    kept = LibraryStore({"REFILM_STORAGE_DIRECTORY": str(folder / "library")})
    kept.open().prepare()
    with LibraryFilms(folder, kept, service.triton_address) as library:
        library.add(clip)
        yield library.serve(), clip


def test_a_film_that_is_not_there_is_not_found(stored_clip: tuple[ServiceProcess, bytes]) -> None:
    answer = watch(stored_clip[0], "films/nothing")
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")


def test_a_damaged_film_is_delivered_as_far_as_it_goes(
    library: LibraryFilms, clip: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    name = library.add(damaged(path, after=8.0), "damaged")
    service = library.serve()

    answer = watch(service, name)

    assert (answer.code, answer.reason) == (grpc.StatusCode.DATA_LOSS, "FILM_DAMAGED")
    frames = len(read_film(answer.output).times)
    assert 150 < frames < 240
    assert answer.progress[-1].frames_written == frames
    counted = encoded(service)
    again = watch(service, name)
    assert (again.code, again.output) == (answer.code, answer.output)
    assert encoded(service) == counted

    stub = library.client(service).stub
    started = stub.StartReconstruction(library_pb2.StartReconstructionRequest(film=name))
    request = library_pb2.GetReconstructionRequest(name=started.reconstruction.name)
    failed = wait_for(
        lambda: ended(stub.GetReconstruction(request).reconstruction), "the reconstruction's end"
    )
    assert failed.state == library_pb2.RECONSTRUCTION_STATE_FAILED
    assert failed.fault.reason == "FILM_DAMAGED"
    assert failed.frames == frames


def ended(reconstruction: library_pb2.Reconstruction) -> library_pb2.Reconstruction | None:
    return reconstruction if reconstruction.HasField("end_time") else None


def damaged(path: Path, after: float) -> bytes:
    """Return a film whose packets from a time on are zeroes."""
    film = bytearray(path.read_bytes())
    with av.open(path, "r") as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size and packet.pts * packet.time_base >= after:
                film[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    return bytes(film)
