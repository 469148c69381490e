"""Reconstructions of films that the library keeps, or shall keep."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import refilm
from google.protobuf.duration_pb2 import Duration
from refilm._names import library_film
from refilm._progress import Meter
from refilm.cli import main
from refilm.cli._report import describe
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import library_pb2

from tests.client.library import Library, film_message
from tests.client.scripted_service import IDENTITY, ScriptedService

RENDITION = "films/bunny/renditions/r"
Response = TypeVar("Response", pb.ReconstructVideoResponse, library_pb2.WatchReconstructionResponse)


def answer(kind: type[Response], bytes_in: bytes, film: str) -> Iterator[Response]:
    """Answer with what came: nothing, for a film of the library."""
    yield kind(
        facts=pb.ReconstructionFacts(
            film=pb.FilmFacts(
                time_base=pb.Rational(numerator=1, denominator=24), estimated_frames=48
            ),
            output=pb.OutputFacts(model=IDENTITY, width=256, height=144),
        )
    )
    yield kind(progress=pb.ReconstructionProgress(frames_written=24, frames_reused=24))
    yield kind(chunk=b"mp4" + bytes_in)
    yield kind(
        summary=pb.ReconstructionSummary(
            frames=48,
            duration=Duration(seconds=2),
            model=IDENTITY,
            film=film,
            rendition=RENDITION,
        )
    )


@pytest.fixture
def asked(scripted: ScriptedService) -> list[pb.ReconstructVideoSettings]:
    """What films of one's own are sent with."""
    settings: list[pb.ReconstructVideoSettings] = []

    def keep(
        requests: Iterator[pb.ReconstructVideoRequest], context: object
    ) -> Iterator[pb.ReconstructVideoResponse]:
        settings.append(next(requests).settings)
        bytes_in = b"".join(request.chunk for request in requests)
        return answer(pb.ReconstructVideoResponse, bytes_in, "films/bunny")

    scripted.on_reconstruct = keep
    return settings


@pytest.fixture
def watched(library: Library) -> list[library_pb2.WatchedRendition]:
    """What films of the library are asked for with."""
    renditions: list[library_pb2.WatchedRendition] = []

    def show(
        rendition: library_pb2.WatchedRendition, context: object
    ) -> Iterator[library_pb2.WatchReconstructionResponse]:
        renditions.append(rendition)
        return answer(library_pb2.WatchReconstructionResponse, b"", rendition.film)

    library.on_watch = show
    return renditions


def film() -> refilm.Film:
    from refilm._film_wire import film

    return film(film_message("bunny", b"x"))


@pytest.mark.parametrize("source", ["films/bunny", film()], ids=["name", "value"])
def test_a_film_of_the_library_is_named_and_not_sent(
    library: Library,
    watched: list[library_pb2.WatchedRendition],
    source: str | refilm.Film,
    tmp_path: Path,
) -> None:
    seen: list[refilm.Progress] = []
    with refilm.Client(library.address) as client:
        result = client.watch(source, tmp_path / "out.mp4", progress=seen.append)
        *_, last = client.watch_stream(source, quality="high", latents=True, model="pca")
    assert (tmp_path / "out.mp4").read_bytes() == b"mp4"
    assert [rendition.film for rendition in watched] == ["films/bunny"] * 2
    assert [rendition.include_latents for rendition in watched] == [False, True]
    assert watched[1].settings.quality == pb.RenditionSettings.QUALITY_HIGH
    assert watched[1].model.name == "models/pca"
    assert (result.film_name, result.rendition) == ("films/bunny", RENDITION)
    assert isinstance(last, refilm.Reconstruction) and last.rendition == RENDITION
    assert (seen[0].frames_written, seen[0].frames_reused) == (24, 24)
    assert (seen[0].bytes_sent, seen[0].bytes_total, seen[0].fraction) == (0, None, 0.5)
    assert "24 frames were there already" in describe(seen[0])
    assert "sent" not in describe(seen[0])


def test_a_path_is_a_path_however_it_looks(
    scripted: ScriptedService,
    asked: list[pb.ReconstructVideoSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("films").mkdir()
    Path("films/bunny").write_bytes(b" of my own")
    with refilm.Client(scripted.address) as client:
        for source in (Path("films/bunny"), "./films/bunny"):
            out = io.BytesIO()
            client.reconstruct(source, out)
            assert out.getvalue() == b"mp4 of my own"
    for text in ("films/Bunny", "films/bunny.mp4", "films/-bunny", "films/a/b", "bunny", "films/"):
        assert library_film(text) is None


def test_a_film_of_ones_own_can_be_kept(
    scripted: ScriptedService, asked: list[pb.ReconstructVideoSettings], tmp_path: Path
) -> None:
    with refilm.Client(scripted.address) as client:
        client.reconstruct(
            io.BytesIO(b"x"), io.BytesIO(), store=True, title="My Film", film_id="my-film"
        )
        assert asked[0].store == pb.StoreSettings(title="My Film", film_id="my-film")
        client.reconstruct(io.BytesIO(b"x"), io.BytesIO())
        assert not asked[1].HasField("store")
        with pytest.raises(ValueError, match="belong to store=True"):
            client.reconstruct(io.BytesIO(b"x"), io.BytesIO(), title="My Film")
        with pytest.raises(TypeError, match="films/bunny is in the library: use watch"):
            client.reconstruct(film(), tmp_path / "out.mp4")  # type: ignore[arg-type]
    assert len(asked) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_does_the_same(
    scripted: ScriptedService,
    asked: list[pb.ReconstructVideoSettings],
    library: Library,
    watched: list[library_pb2.WatchedRendition],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reconstruct", "films/bunny", "--address", library.address]) == 0
    assert [rendition.film for rendition in watched] == ["films/bunny"]
    assert Path("bunny.reconstruction.mp4").read_bytes() == b"mp4"
    assert capsys.readouterr().err.splitlines()[-1] == f"in the library: {RENDITION}"
    Path("holiday.mp4").write_bytes(b"x")
    own = ["reconstruct", "holiday.mp4", "--store", "--id", "holiday"]
    assert main([*own, "--address", scripted.address]) == 0
    assert asked[-1].store == pb.StoreSettings(title="holiday", film_id="holiday")


def test_the_rate_is_that_of_what_is_made() -> None:
    times = iter([0.0, 1.0, 3.0])
    measured = Meter(None, clock=lambda: next(times))
    measured.start(dataclasses.replace(film().facts, estimated_frames=480))
    # What is there comes at once, and says nothing of what is to come.
    first = measured.progress(pb.ReconstructionProgress(frames_written=240, frames_reused=240))
    assert first.frames_per_second == 240
    then = measured.progress(pb.ReconstructionProgress(frames_written=270, frames_reused=240))
    assert (then.frames_per_second, then.eta) == (10, 21)
