"""Films in the library, what was made of them, and downloads over a connection that is cut."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import refilm
from google.protobuf.duration_pb2 import Duration
from refilm.v1 import autoencoder_pb2
from refilm.v1 import library_pb2 as pb

from tests.client.library import CREATED, PART_BYTES, Cable, Library, job, questions_of, stands
from tests.client.scripted_service import IDENTITY

FILM = np.random.default_rng(5).bytes(5 * PART_BYTES + 12_345)
MODEL = refilm.ModelIdentity("pca", 2, IDENTITY.digest)
LOOK = autoencoder_pb2.RenditionSettings


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_downloads_whole_by_range_and_over_cuts(
    library: Library, cable: Cable, tmp_path: Path
) -> None:
    library.keep("bunny", FILM)
    out = tmp_path / "bunny.mp4"
    seen: list[refilm.TransferProgress] = []
    # Late enough that the client has taken some: what it has not is lost with the connection.
    cable.cut_after(3_000_000, 2_000_000)
    with refilm.Client(cable.address) as client:
        facts = client.download("films/bunny", out, progress=seen.append)
        assert out.read_bytes() == FILM
        assert facts.size == len(FILM)
        assert cable.cuts == 2
        offsets = [r.read_offset_bytes for r in questions_of(library, pb.DownloadFilmRequest)]
        assert len(offsets) == 3 and 0 == offsets[0] < offsets[1] < offsets[2]
        assert (seen[-1].bytes_done, seen[-1].fraction, seen[-1].eta) == (len(FILM), 1.0, 0)

        film = client.film("films/bunny")
        client.download(film, out, offset=1000, limit=500)
        assert out.read_bytes() == FILM[1000:1500]
        client.download(film, out, offset=len(FILM) - 10, limit=500)
        assert out.read_bytes() == FILM[-10:]
        first, *chunks = client.download_stream(film, offset=3_000_000)
        assert first == facts
        assert b"".join(chunk for chunk in chunks if isinstance(chunk, bytes)) == FILM[3_000_000:]

        with pytest.raises(refilm.OutOfRangeError):
            client.download(film, out, offset=len(FILM) + 1)
        with pytest.raises(refilm.NotFoundError, match="films/other"):
            client.download("films/other", tmp_path / "other.mp4")
        with pytest.raises(ValueError, match="numbers of bytes"):
            client.download(film, out, offset=-1)
    assert names(tmp_path) == {"bunny.mp4"}


def test_films_come_page_by_page_as_they_are_asked_for(library: Library) -> None:
    for index in range(7):
        library.keep(f"film-{index}", b"x")
    library.page_size = 3
    with refilm.Client(library.address) as client:
        films = client.films(filter="duration > 10s")
        assert library.requests == []
        assert next(films).id == "film-0"
        assert len(library.requests) == 1
        assert [film.id for film in films] == [f"film-{index}" for index in range(1, 7)]
        asked = questions_of(library, pb.ListFilmsRequest)
        assert [request.filter for request in asked] == ["duration > 10s"] * 3
        with pytest.raises(refilm.InvalidRequestError) as caught:
            list(client.films(filter="("))
    assert caught.value.violations[0].field == "filter"


def test_a_film_tells_what_was_made_of_it(library: Library) -> None:
    library.keep(
        "bunny",
        b"x",
        renditions=[
            pb.Rendition(
                name="films/bunny/renditions/r",
                model=IDENTITY,
                settings=LOOK(
                    layout=LOOK.LAYOUT_SIDE_BY_SIDE,
                    picture_size=LOOK.PICTURE_SIZE_SOURCE,
                    sound=LOOK.SOUND_NONE,
                    quality=LOOK.QUALITY_HIGH,
                ),
                size_bytes=77,
                frames=48,
                duration=Duration(seconds=2),
                create_time=CREATED,
            )
        ],
        latents=[
            pb.StoredLatents(
                name="films/bunny/latents/d", model=IDENTITY, frames=48, create_time=CREATED
            )
        ],
    )
    library.bytes["films/bunny/renditions/r"] = b"a rendition"
    created = datetime.fromtimestamp(CREATED.seconds, UTC)
    with refilm.Client(library.address) as client:
        film = client.film("films/bunny")
        assert film.renditions == (
            refilm.Rendition(
                "films/bunny/renditions/r",
                MODEL,
                refilm.RenditionSettings("side_by_side", "source", False, "high"),
                77,
                48,
                2.0,
                created,
            ),
        )
        assert film.latents == (refilm.StoredLatents("films/bunny/latents/d", MODEL, 48, created),)
        out = io.BytesIO()
        client.download(film.renditions[0], out)
        assert out.getvalue() == b"a rendition"
        with pytest.raises(refilm.NotFoundError):
            client.film("films/other")


def test_a_repeated_delete_is_the_same_request(library: Library) -> None:
    film = library.keep("bunny", b"x")
    library.refusals = 2
    with refilm.Client(library.address) as client:
        client.delete_film(client.film(film.name))
        asked = questions_of(library, pb.DeleteFilmRequest)
        assert len(asked) == 3
        assert len({request.request_id for request in asked}) == 1
        assert len(asked[0].request_id) == 36
        with pytest.raises(refilm.NotFoundError):
            client.delete_film("films/bunny")
        # Another call is another request.
        last = questions_of(library, pb.DeleteFilmRequest)[-1]
        assert last.request_id != asked[0].request_id


def test_urls_of_the_object_store(library: Library) -> None:
    with refilm.Client(library.address) as client:
        url = client.upload_url(title="A film", size=3, time_to_live=timedelta(minutes=5))
        request = library.requests[-1]
        assert isinstance(request, pb.CreateUploadUrlRequest)
        assert request.time_to_live.seconds == 300
        assert request.settings.upload_id == url.upload_id != ""
        assert url.url.startswith("https://")
        assert url.expires.tzinfo is UTC
        assert client.complete_upload(url.upload_id).size == 3
        with pytest.raises(refilm.PreconditionError, match="kept in a folder") as caught:
            client.download_urls("films/bunny", time_to_live=60)
    assert caught.value.reason == "PRESIGNING_UNSUPPORTED"
    assert library.requests[-1].time_to_live.seconds == 60


def test_a_job_is_started_watched_cancelled_and_listed(library: Library) -> None:
    library.keep("bunny", b"x")
    name = "films/bunny/reconstructions/1"
    running, done = pb.RECONSTRUCTION_STATE_RUNNING, pb.RECONSTRUCTION_STATE_SUCCEEDED
    library.jobs[name] = stands(
        job(pb.RECONSTRUCTION_STATE_QUEUED), job(running, 40), job(running, 40), job(done, 100)
    )
    library.jobs["films/sintel/reconstructions/2"] = stands(
        job(
            pb.RECONSTRUCTION_STATE_FAILED,
            7,
            fault=pb.ReconstructionFault(reason="NO_PICTURE", message="there is no picture"),
            end_time=CREATED,
        )
    )
    seen: list[refilm.ReconstructionJob] = []
    with refilm.Client(library.address) as client:
        started = client.start_reconstruction("films/bunny", model=MODEL, sound=False)
        assert (started.name, started.state, started.done) == (name, "queued", False)
        request = library.requests[0]
        assert isinstance(request, pb.StartReconstructionRequest)
        assert (request.model.digest, len(request.request_id)) == (MODEL.digest, 36)
        assert request.settings.sound == LOOK.SOUND_NONE

        ended = client.wait_for_reconstruction(started, progress=seen.append)
        assert (ended.state, ended.fraction, ended.rendition) == (
            "succeeded",
            1.0,
            "films/bunny/renditions/r",
        )
        assert [(now.state, now.frames) for now in seen] == [("running", 40), ("succeeded", 100)]
        assert seen[0].fraction == 0.4

        assert client.cancel_reconstruction(ended).state == "succeeded"
        _, failed = client.reconstructions()
        assert failed.fault == refilm.JobFault("NO_PICTURE", "there is no picture")
        assert failed.done and failed.ended is not None
        asked = questions_of(library, pb.ListReconstructionsRequest)
        assert [(r.parent, r.page_token) for r in asked] == [("films/-", ""), ("films/-", "1")]
        with pytest.raises(refilm.NotFoundError):
            client.wait_for_reconstruction("films/bunny/reconstructions/9")


def test_waiting_for_a_job_survives_cuts_and_ends_in_time(library: Library, cable: Cable) -> None:
    name = "films/bunny/reconstructions/1"
    running, done = pb.RECONSTRUCTION_STATE_RUNNING, pb.RECONSTRUCTION_STATE_SUCCEEDED
    library.jobs[name] = stands(*(job(running, frames) for frames in range(3)), job(done, 100))
    library.looks = 1
    with refilm.Client(cable.address) as client:
        ended = client.wait_for_reconstruction(name, progress=lambda now: cable.cut())
        assert ended.state == "succeeded"
        assert cable.cuts >= 3
        library.jobs[name] = stands(job(running, 1))
        with pytest.raises(refilm.DeadlineError, match="had not ended in time"):
            client.wait_for_reconstruction(name, timeout=0.3)


def test_a_frame_of_a_film_is_a_picture_with_its_time(library: Library) -> None:
    rendition = "films/bunny/renditions/r"
    with refilm.Client(library.address) as client:
        picture = client.frame(rendition, 1.25, format="png")
    assert (picture.data, picture.format, picture.model) == (b"a picture", "png", MODEL)
    assert (picture.time, picture.timing) == (1.5, None)
    asked = library.requests[-1]
    assert isinstance(asked, pb.GetFrameRequest)
    assert (asked.name, asked.time.ToMilliseconds()) == (rendition, 1250)
    assert asked.format == autoencoder_pb2.IMAGE_FORMAT_PNG
