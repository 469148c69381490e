"""Questions to the latents as they go over the wire, and answers as callers get them."""

import io
from array import array
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import refilm
import refilm.aio
from google.protobuf.duration_pb2 import Duration
from refilm.v1 import autoencoder_pb2
from refilm.v1 import latents_pb2 as pb

from tests.client.library import Library, passage, questions_of
from tests.client.scripted_service import IDENTITY, latent

MODEL = refilm.ModelIdentity("pca", 2, IDENTITY.digest)
LATENT = np.linspace(-1, 1, 200, dtype=np.float32)


def hit(index: int) -> pb.SearchHit:
    return passage(
        pb.SearchHit,
        index,
        index + 2,
        film="films/bunny",
        title="Bunny",
        best_time=Duration(seconds=index + 1, nanos=500_000_000),
        similarity=0.5,
        preview=b"jpeg",
    )


def found(total: int) -> Callable[[pb.SearchFramesRequest], pb.SearchFramesResponse]:
    """Answer a search as one that finds `total` passages."""

    def answer(request: pb.SearchFramesRequest) -> pb.SearchFramesResponse:
        start = int(request.page_token or 0) + request.skip
        end = min(total, start + request.page_size)
        return pb.SearchFramesResponse(
            hits=[hit(index) for index in range(start, end)],
            next_page_token=str(end) if end < total else "",
            model=IDENTITY,
            query_warning="the picture is black",
            films_searched=3,
            films_left_out=1,
        )

    return answer


def test_a_search_asks_by_what_it_is_given(library: Library, tmp_path: Path) -> None:
    library.answers["SearchFramesRequest"] = found(1)
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(b"a picture")
    film = library.keep("bunny", b"x")
    encoding = refilm.Encoding(LATENT, None, MODEL, refilm.Timing(0, 0))
    pixels = np.zeros((2, 3, 3), np.uint8)
    with refilm.Client(library.address) as client:
        for query, kind in (
            (picture, "frame"),
            (str(picture), "frame"),
            (b"a picture", "frame"),
            (pixels, "frame"),
            (encoding, "latent"),
            (LATENT, "latent"),
            (LATENT.astype(np.float64), "latent"),
            (array("f", LATENT), "latent"),
            (LATENT.tolist(), "latent"),
            (tuple(LATENT.tolist()), "latent"),
            (refilm.Moment("films/bunny", 1.5), "moment"),
            (("films/bunny", timedelta(seconds=1.5)), "moment"),
            ((client.film(film.name), Fraction(3, 2)), "moment"),
        ):
            client.search_frames(query)
            asked = library.requests[-1]
            assert isinstance(asked, pb.SearchFramesRequest)
            assert asked.WhichOneof("query") == kind
            if kind == "latent":
                assert np.allclose(asked.latent.floats.values, LATENT)
                known = isinstance(query, refilm.Encoding)
                assert asked.latent.model_digest == (MODEL.digest if known else "")
            if kind == "moment":
                assert asked.moment == pb.FilmMoment(
                    film="films/bunny", time=Duration(seconds=1, nanos=500_000_000)
                )
        wrong: Any
        for wrong, error in (
            (3, TypeError),
            (("films/bunny", -1), ValueError),
            (("films/bunny", float("nan")), ValueError),
            (np.zeros((2, 200), np.float32), TypeError),
            ("missing.jpg", FileNotFoundError),
        ):
            with pytest.raises(error):
                client.search_frames(wrong)


def test_a_search_returns_as_many_hits_as_wanted(library: Library) -> None:
    library.answers["SearchFramesRequest"] = found(230)
    with refilm.Client(library.address) as client:
        result = client.search_frames(
            LATENT,
            limit=150,
            skip=20,
            min_similarity=0.25,
            films=["films/bunny"],
            start=10,
            end=timedelta(minutes=1),
            previews=True,
            model=MODEL,
        )
        assert len(result.hits) == 150
        assert result.hits[0] == refilm.SearchHit(
            "films/bunny", "Bunny", 20.0, 22.0, 21.5, 0.5, b"jpeg"
        )
        assert result.hits[-1].start == 169
        assert (result.model, result.warning) == (MODEL, "the picture is black")
        assert (result.films_searched, result.films_left_out) == (3, 1)
        first, second = questions_of(library, pb.SearchFramesRequest)
        assert (first.page_size, first.skip, second.page_size, second.skip) == (100, 20, 50, 0)
        for asked in (first, second):
            assert (asked.min_similarity, asked.include_previews) == (0.25, True)
            assert (list(asked.films), asked.model.digest) == (["films/bunny"], MODEL.digest)
            assert (asked.range.start_time.seconds, asked.range.end_time.seconds) == (10, 60)
        assert len(client.search_frames(LATENT, limit=500).hits) == 230

        with pytest.raises(ValueError, match="limit counts hits from 1"):
            client.search_frames(LATENT, limit=0)
        with pytest.raises(ValueError, match="lies before the start"):
            client.search_frames(LATENT, start=2, end=1)
        with pytest.raises(TypeError, match="put the one into brackets"):
            client.search_frames(LATENT, films="films/bunny")


async def test_a_clip_is_matched(library: Library, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(np.random.default_rng(1).bytes(700_000))
    match = passage(
        pb.ClipMatch,
        60,
        65,
        film="films/bunny",
        title="Bunny",
        clip_end_time=Duration(seconds=5),
        confidence=0.75,
        similarity=0.5,
    )
    library.answers["MatchClipSettings"] = pb.MatchClipResponse(
        matches=[match],
        model=IDENTITY,
        clip_duration=Duration(seconds=5),
        frames_compared=120,
        bars=pb.CroppedBars(top=20, bottom=20),
        films_searched=3,
    )
    expected = refilm.MatchResult(
        matches=(refilm.ClipMatch("films/bunny", "Bunny", 60, 65, 0, 5, 0.75, 0.5),),
        model=MODEL,
        clip_duration=5,
        frames_compared=120,
        warning="",
        bars=refilm.CroppedBars(0, 20, 0, 20),
        films_searched=3,
        films_left_out=0,
    )
    with refilm.Client(library.address) as client:
        assert client.match_clip(clip, limit=3) == expected
        settings = library.requests[-1]
        assert isinstance(settings, pb.MatchClipSettings)
        assert (settings.max_matches, settings.clip_size_bytes) == (3, 700_000)
        with pytest.raises(ValueError, match="1 to 20"):
            client.match_clip(clip, limit=21)
    async with refilm.aio.Client(library.address) as client:
        assert await client.match_clip(clip) == expected
    assert library.clip == clip.read_bytes()


def test_duplicates_come_page_by_page(library: Library) -> None:
    def answer(request: pb.FindDuplicatesRequest) -> pb.FindDuplicatesResponse:
        index = int(request.page_token or 0)
        return pb.FindDuplicatesResponse(
            pairs=[
                pb.DuplicatePair(
                    first=passage(pb.Passage, index, index + 3, film="films/a", title="A"),
                    second=passage(pb.Passage, index + 9, index + 12, film="films/b", title="B"),
                    similarity=0.75,
                )
            ],
            next_page_token=str(index + 1) if index < 2 else "",
            model=IDENTITY,
        )

    library.answers["FindDuplicatesRequest"] = answer
    with refilm.Client(library.address) as client:
        pairs = client.find_duplicates(films=["films/a"], min_duration=timedelta(seconds=3))
        assert next(pairs) == refilm.DuplicatePair(
            refilm.Passage("films/a", "A", 0, 3), refilm.Passage("films/b", "B", 9, 12), 0.75, MODEL
        )
        assert len(library.requests) == 1
        assert [pair.first.start for pair in pairs] == [1, 2]
        asked = questions_of(library, pb.FindDuplicatesRequest)
        assert [(r.page_token, r.min_duration.seconds) for r in asked] == [
            ("", 3),
            ("1", 3),
            ("2", 3),
        ]
        with pytest.raises(ValueError, match=r"between 0\.5 and 1"):
            next(client.find_duplicates(min_similarity=0))


def test_latents_come_in_batches(library: Library) -> None:
    base = autoencoder_pb2.Rational(numerator=1, denominator=24)
    rows = np.arange(600, dtype=np.float32)
    library.answers["ListLatentsRequest"] = [
        pb.ListLatentsResponse(
            model=IDENTITY,
            time_base=base,
            pts=[0, 2],
            latents=[latent(rows[:200]), latent(rows[200:400])],
            embeddings=[autoencoder_pb2.Embedding(values=row) for row in (rows[:200], rows[:200])],
        ),
        pb.ListLatentsResponse(
            model=IDENTITY, time_base=base, pts=[4], latents=[latent(rows[400:])]
        ),
    ]
    with refilm.Client(library.address) as client:
        first, second = client.latents("films/bunny", start=1, stride=2, embeddings=True)
        asked = library.requests[-1]
        assert isinstance(asked, pb.ListLatentsRequest)
        assert (asked.stride, asked.include_embeddings, asked.range.HasField("end_time")) == (
            2,
            True,
            False,
        )
        assert (first.pts, first.time_base, first.model) == ((0, 2), Fraction(1, 24), MODEL)
        assert first.latents.tolist() == rows[:400].reshape(2, 200).tolist()
        assert first.embeddings is not None and first.embeddings.shape == (2, 200)
        assert (second.latents.shape, second.embeddings) == ((1, 200), None)
        assert repr(second) == "FilmLatents(pts=(4,), latents=[1, 200])"
        with pytest.raises(ValueError, match="stride counts frames, from 1"):
            next(client.latents("films/bunny", stride=0))


def test_latents_are_exported_as_the_file_is_named(library: Library, tmp_path: Path) -> None:
    library.answers["ExportLatentsRequest"] = [
        pb.ExportLatentsResponse(chunk=b"one"),
        pb.ExportLatentsResponse(chunk=b"two"),
    ]
    with refilm.Client(library.address) as client:
        for name, format in (
            ("x.npy", pb.LATENTS_FORMAT_NPY),
            ("x.arrow", pb.LATENTS_FORMAT_ARROW),
        ):
            assert client.export_latents("films/bunny", tmp_path / name) == 6
            assert (tmp_path / name).read_bytes() == b"onetwo"
            assert library.requests[-1].format == format
        out = io.BytesIO()
        client.export_latents("films/bunny", out, format="arrow")
        assert (out.getvalue(), library.requests[-1].format) == (b"onetwo", pb.LATENTS_FORMAT_ARROW)
        with pytest.raises(ValueError, match="name the format"):
            client.export_latents("films/bunny", tmp_path / "x.csv")


def test_what_lies_between_two_moments(library: Library, tmp_path: Path) -> None:
    raw = autoencoder_pb2.RawImage(width=256, height=144, rgb=b"\7" * (256 * 144 * 3))
    library.answers["InterpolateRequest"] = [
        pb.InterpolateResponse(model=IDENTITY),
        pb.InterpolateResponse(frame=autoencoder_pb2.Frame(raw=raw)),
        pb.InterpolateResponse(frame=autoencoder_pb2.Frame(raw=raw)),
    ]
    with refilm.Client(library.address) as client:
        pictures = list(
            client.interpolate(
                ("films/a", 12.5), LATENT, steps=2, mode="spherical", format="raw", model=MODEL
            )
        )
        asked = library.requests[-1]
        assert isinstance(asked, pb.InterpolateRequest)
        assert asked.start.moment.film == "films/a"
        assert len(asked.end.latent.floats.values) == 200
        assert (asked.steps, asked.mode) == (2, pb.INTERPOLATION_MODE_SPHERICAL)
        assert [picture.pixels.mean() for picture in pictures] == [7, 7]
        assert (pictures[0].model, pictures[0].timing) == (MODEL, None)

        library.answers["InterpolateRequest"] = [
            pb.InterpolateResponse(model=IDENTITY),
            pb.InterpolateResponse(chunk=b"a "),
            pb.InterpolateResponse(chunk=b"film"),
        ]
        out = tmp_path / "between.mp4"
        made_by = client.interpolate_film(
            ("films/a", 1), ("films/b", 2), out, frame_rate=24_000 / 1001
        )
        assert (out.read_bytes(), made_by) == (b"a film", MODEL)
        assert library.requests[-1].format == pb.INTERPOLATION_FORMAT_MP4
        rate = library.requests[-1].frame_rate
        assert (rate.numerator, rate.denominator) == (24_000, 1001)

        with pytest.raises(TypeError, match="encode the picture"):
            next(client.interpolate(b"a picture", LATENT))
        with pytest.raises(ValueError, match="from 2"):
            next(client.interpolate(LATENT, LATENT, steps=1))
