"""MatchClip over the socket: distorted clips of a real film, and what cannot be matched."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import av
import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from refilm.v1 import autoencoder_pb2 as auto
from refilm.v1 import latents_pb2 as pb
from refilm.v1 import latents_pb2_grpc, library_pb2, library_pb2_grpc

from benchmarks.distortions import Brightening, Distortion, Watermark, distort, together
from benchmarks.environment import EXAMPLE_FILM, train_model
from film.quality import frame_detail
from film.read.film_reader import FilmReader
from service.storage.folder import FolderStore
from tests.film.clips import make_clip
from tests.support.latents_library import models_of
from tests.support.messages import latent, model_of
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.status import error_of
from tests.support.stored_latents import Rows, store_film

RATE = 24
MIB = 1 << 20


@dataclass
class MatchLibrary:
    """A service whose library holds the example film, and its first 20 s under another id."""

    service: ServiceProcess
    store: FolderStore
    folder: Path
    rows: Rows
    """Of the whole film."""

    @property
    def stub(self) -> latents_pb2_grpc.LatentsServiceStub:
        return latents_pb2_grpc.LatentsServiceStub(self.service.channel)

    def wait_for_index(self, films: int) -> None:
        query = latent([1.0] * 200)

        def indexed() -> bool:
            answer = self.stub.SearchFrames(pb.SearchFramesRequest(latent=query), timeout=60)
            return answer.films_searched == films and answer.films_left_out == 0

        wait_for(indexed, f"{films} films in the index")

    def clip(self, distortion: Distortion, first: int, seconds: int = 5) -> bytes:
        """Cut a clip out of the film, from a picture on, and distort it."""
        path = self.folder / f"{distortion.name}-{first}-{seconds}.mp4"
        last = first + seconds * RATE - 1
        distort(EXAMPLE_FILM, path, distortion, first=first, last=last)
        return path.read_bytes()

    def match(self, clip: bytes, **settings: Any) -> pb.MatchClipResponse:
        return self.stub.MatchClip(requests(clip, **settings), timeout=120)


def requests(clip: bytes, **settings: Any) -> Iterator[pb.MatchClipRequest]:
    yield pb.MatchClipRequest(settings=pb.MatchClipSettings(**settings))
    for first in range(0, len(clip), MIB // 4):
        yield pb.MatchClipRequest(chunk=clip[first : first + MIB // 4])


@pytest.fixture(scope="module")
def match_library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MatchLibrary]:
    folder = tmp_path_factory.mktemp("match")
    repository = train_model(folder)
    store = FolderStore(folder / "service" / "library")
    store.prepare()
    with ServiceProcess(folder / "service", [repository]) as service:
        service.wait_until_serving()
        made_by = models_of(service)[1]
        rows = film_rows(service)
        for film_id, count in (("bunny", len(rows.pts)), ("bunny-begins", 20 * RATE)):
            some = Rows(
                rows.latents[:count],
                rows.embeddings[:count],
                rows.pts[:count],
                rows.detail[:count],
                rows.time_base,
                int(rows.pts[count]) if count < len(rows.pts) else rows.end_pts,
            )
            store_film(store, film_id, made_by, some)
        library = MatchLibrary(service, store, folder, rows)
        library.wait_for_index(2)
        yield library


def film_rows(service: ServiceProcess) -> Rows:
    """Encode the example film through the service."""
    frames: list[NDArray[np.uint8]] = []
    pts: list[int] = []
    with EXAMPLE_FILM.open("rb") as file, FilmReader(file, sound=False) as reader:
        for batch in reader.batches(64):
            frames.append(batch.frames)
            pts += batch.pts.tolist()
        time_base = reader.facts.time_base
    pictures = np.concatenate(frames)

    def asked() -> Iterator[auto.EncodeStreamRequest]:
        yield auto.EncodeStreamRequest(settings=auto.EncodeStreamSettings(include_embedding=True))
        for picture in pictures:
            raw = auto.RawImage(width=256, height=144, rgb=picture.tobytes())
            yield auto.EncodeStreamRequest(frame=auto.Frame(raw=raw))

    answers = list(service.stub.EncodeStream(asked()))
    return Rows(
        np.array([answer.latent.floats.values for answer in answers], np.float32),
        np.array([answer.embedding.values for answer in answers], np.float32),
        np.array(pts, np.int64),
        frame_detail(pictures),
        time_base,
        pts[-1] + round(Fraction(1, RATE) / time_base),
    )


def encoded(path: Path, pictures: Iterator[NDArray[np.uint8]]) -> bytes:
    """Write pictures as a clip of 24 a second."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            if not stream.codec_context.is_open:
                stream.height, stream.width = picture.shape[:2]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return path.read_bytes()


def film_pictures(first: int, count: int) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(EXAMPLE_FILM), "r") as container:
        for number, frame in enumerate(container.decode(video=0)):
            if first <= number < first + count:
                yield frame.to_ndarray(format="rgb24").view(np.uint8)


PLAIN = Distortion("plain")
DISTORTIONS = (
    Distortion("re-encoded", crf=40),
    Distortion("resized", size=(320, 240)),
    Distortion("letterboxed", canvas=Fraction(4, 3)),
    Distortion("pillarboxed", canvas=Fraction(12, 5)),
    Distortion("brightened", brightening=Brightening(1.2, 0.8, 0.05)),
    Distortion("watermarked", watermark=Watermark("TV", False, True, 0.4, 0.25, 0.8)),
)
TOGETHER = together("together", *(DISTORTIONS[place] for place in (0, 2, 4, 5)))


def seconds(message: object, field: str) -> float:
    return getattr(message, field).ToTimedelta().total_seconds()


@pytest.mark.parametrize("distortion", [PLAIN, *DISTORTIONS, TOGETHER], ids=lambda one: one.name)
def test_a_distorted_clip_is_found_where_it_lies(
    match_library: MatchLibrary, distortion: Distortion
) -> None:
    for first in (611, 1003):
        answer = match_library.match(match_library.clip(distortion, first))
        (found,) = answer.matches
        assert found.film == "films/bunny"
        assert seconds(found, "start_time") == pytest.approx(first / RATE, abs=0.3)
        assert seconds(found, "end_time") == pytest.approx(first / RATE + 5, abs=0.4)
        assert seconds(found, "clip_start_time") == 0
        assert seconds(found, "clip_end_time") == pytest.approx(5, abs=0.01)
        assert found.confidence > 0.8
        assert found.similarity > (0.5 if distortion is TOGETHER else 0.8)
        assert answer.query_warning == ""
        assert seconds(answer, "clip_duration") == pytest.approx(5, abs=0.01)
        assert 20 <= answer.frames_compared <= 26
        assert (answer.films_searched, answer.films_left_out) == (2, 0)
        assert model_of(answer.model) == ("pca", 1)


def test_the_bars_that_were_cut_off_are_reported(match_library: MatchLibrary) -> None:
    bars = match_library.match(match_library.clip(DISTORTIONS[2], 611)).bars
    assert (bars.left, bars.top, bars.right, bars.bottom) == (0, 60, 0, 60)
    assert match_library.match(match_library.clip(PLAIN, 611)).bars == pb.CroppedBars()


def test_a_clip_that_begins_with_something_else_is_reported_from_it(
    match_library: MatchLibrary, tmp_path: Path
) -> None:
    columns = np.arange(640) // 80 * 32
    colours = np.stack([columns, columns[::-1], 255 - columns], axis=-1).astype(np.uint8)
    card = np.broadcast_to(colours, (360, 640, 3))
    pictures = chain(repeat(card, 2 * RATE), film_pictures(611, 5 * RATE))
    (found,) = match_library.match(encoded(tmp_path / "joined.mp4", pictures)).matches
    assert found.film == "films/bunny"
    assert seconds(found, "clip_start_time") == pytest.approx(2, abs=0.3)
    assert seconds(found, "clip_end_time") == pytest.approx(7, abs=0.05)
    assert seconds(found, "start_time") == pytest.approx(611 / RATE, abs=0.4)


def test_a_passage_of_two_films_is_answered_for_both_or_for_those_asked(
    match_library: MatchLibrary,
) -> None:
    clip = match_library.clip(PLAIN, 200)
    both = match_library.match(clip, max_matches=5).matches
    assert {found.film for found in both} == {"films/bunny", "films/bunny-begins"}
    assert all(0.5 <= found.confidence < 0.8 for found in both)
    (one,) = match_library.match(clip, max_matches=5, films=["films/bunny-begins"]).matches
    assert one.film == "films/bunny-begins"
    later = match_library.clip(PLAIN, 1003)
    assert not match_library.match(later, films=["films/bunny-begins"]).matches


def test_a_stranger_is_not_matched(match_library: MatchLibrary, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "stranger.mp4", frames=72)
    answer = match_library.match(clip.path.read_bytes())
    assert not answer.matches


def test_a_black_clip_and_a_still_one_are_warned_about(
    match_library: MatchLibrary, tmp_path: Path
) -> None:
    nothing = repeat(np.full((90, 160, 3), 3, np.uint8), 48)
    black = match_library.match(encoded(tmp_path / "black.mp4", nothing))
    assert not black.matches and black.frames_compared == 0
    assert "black" in black.query_warning
    picture = next(film_pictures(1003, 1))
    still = match_library.match(encoded(tmp_path / "still.mp4", repeat(picture, 48)))
    assert "still" in still.query_warning


def test_a_deleted_film_is_not_matched(match_library: MatchLibrary) -> None:
    made_by = models_of(match_library.service)[1]
    store_film(match_library.store, "gone", made_by, match_library.rows)
    match_library.wait_for_index(3)
    clip = match_library.clip(PLAIN, 1003)
    films = ["films/gone"]
    assert match_library.match(clip, films=films).matches
    library = library_pb2_grpc.LibraryServiceStub(match_library.service.channel)
    library.DeleteFilm(library_pb2.DeleteFilmRequest(name="films/gone"), timeout=60)
    error = error_of(lambda: match_library.match(clip, films=films))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")
    matches = match_library.match(clip, max_matches=20).matches
    assert [found.film for found in matches] == ["films/bunny"]


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        ([], "INVALID_ARGUMENT", "EMPTY_STREAM"),
        ([{"chunk": b"x"}], "INVALID_ARGUMENT", "SETTINGS_REQUIRED"),
        ([{"settings": {}}], "INVALID_ARGUMENT", "EMPTY_FILM"),
        ([{"settings": {}}, {"settings": {}}], "INVALID_ARGUMENT", "SETTINGS_REPEATED"),
        ([{"settings": {}}, {"chunk": b""}], "INVALID_ARGUMENT", "INVALID_CHUNK_SIZE"),
        ([{"settings": {}}, {}], "INVALID_ARGUMENT", "CHUNK_REQUIRED"),
        ([{"settings": {}}, {"chunk": b"no film" * 99}], "INVALID_ARGUMENT", "NOT_A_FILM"),
        ([{"settings": {"max_matches": -1}}], "INVALID_ARGUMENT", "INVALID_FIELD"),
        ([{"settings": {"films": ["bunny"]}}], "INVALID_ARGUMENT", "INVALID_NAME"),
        ([{"settings": {"model": {"name": "models/none"}}}], "NOT_FOUND", "MODEL_NOT_FOUND"),
    ],
)
def test_what_is_no_clip_is_refused(
    match_library: MatchLibrary, messages: list[dict[str, Any]], code: str, reason: str
) -> None:
    sent = [pb.MatchClipRequest(**message) for message in messages]
    error = error_of(lambda: match_library.stub.MatchClip(iter(sent), timeout=60))
    assert (error.code, error.reason) == (grpc.StatusCode[code], reason)


def test_a_clip_that_ends_early_is_data_loss(match_library: MatchLibrary) -> None:
    clip = match_library.clip(PLAIN, 1003)
    announced = len(clip) + 1
    error = error_of(lambda: match_library.match(clip, clip_size_bytes=announced))
    assert error.code is grpc.StatusCode.DATA_LOSS
    longer = error_of(lambda: match_library.match(clip, clip_size_bytes=len(clip) - 1))
    assert (longer.code, longer.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FILM_SIZE_MISMATCH",
    )
