"""Reconstructions of films that the library keeps, or shall keep."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import refilm
from google.protobuf.duration_pb2 import Duration
from refilm._names import library_film
from refilm._progress import Meter
from refilm.cli import main
from refilm.cli._report import describe
from refilm.v1 import autoencoder_pb2 as pb

from tests.client.library import film_message
from tests.client.scripted_service import IDENTITY, ScriptedService

RENDITION = "films/bunny/renditions/r"


def answer(
    requests: Iterator[pb.ReconstructVideoRequest], context: object
) -> Iterator[pb.ReconstructVideoResponse]:
    """Answer with what came: nothing, for a film of the library."""
    bytes_in = b"".join(request.chunk for request in requests)
    yield pb.ReconstructVideoResponse(
        film=pb.FilmFacts(
            time_base=pb.Rational(numerator=1, denominator=24), estimated_frames=48, model=IDENTITY
        )
    )
    yield pb.ReconstructVideoResponse(
        progress=pb.ReconstructVideoProgress(frames_written=24, frames_reused=24)
    )
    yield pb.ReconstructVideoResponse(chunk=b"mp4" + bytes_in)
    yield pb.ReconstructVideoResponse(
        summary=pb.ReconstructVideoSummary(
            frames=48,
            duration=Duration(seconds=2),
            model=IDENTITY,
            film="films/bunny",
            rendition=RENDITION,
        )
    )


@pytest.fixture
def asked(scripted: ScriptedService) -> list[pb.ReconstructVideoSettings]:
    settings: list[pb.ReconstructVideoSettings] = []

    def keep(
        requests: Iterator[pb.ReconstructVideoRequest], context: object
    ) -> Iterator[pb.ReconstructVideoResponse]:
        settings.append(next(requests).settings)
        return answer(requests, context)

    scripted.on_reconstruct = keep
    return settings


def film() -> refilm.Film:
    from refilm._film_wire import film

    return film(film_message("bunny", b"x"))


@pytest.mark.parametrize("source", ["films/bunny", film()], ids=["name", "value"])
def test_a_film_of_the_library_is_named_and_not_sent(
    scripted: ScriptedService,
    asked: list[pb.ReconstructVideoSettings],
    source: str | refilm.Film,
    tmp_path: Path,
) -> None:
    seen: list[refilm.Progress] = []
    with refilm.Client(scripted.address) as client:
        result = client.reconstruct(source, tmp_path / "out.mp4", progress=seen.append)
        *_, last = client.reconstruct_stream(source, quality="high")
    assert (tmp_path / "out.mp4").read_bytes() == b"mp4"
    assert [settings.film for settings in asked] == ["films/bunny"] * 2
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
            assert asked[-1].film == ""
    for text in ("films/Bunny", "films/bunny.mp4", "films/-bunny", "films/a/b", "bunny", "films/"):
        assert library_film(text) is None


def test_a_film_of_ones_own_can_be_kept(
    scripted: ScriptedService, asked: list[pb.ReconstructVideoSettings], tmp_path: Path
) -> None:
    with refilm.Client(scripted.address) as client:
        client.reconstruct(
            io.BytesIO(b"x"), io.BytesIO(), store=True, title="My Film", film_id="my-film"
        )
        assert (asked[0].store, asked[0].title, asked[0].film_id) == (True, "My Film", "my-film")
        with pytest.raises(ValueError, match="belong to store=True"):
            client.reconstruct(io.BytesIO(b"x"), io.BytesIO(), title="My Film")
        with pytest.raises(ValueError, match="in the library already"):
            client.reconstruct("films/bunny", tmp_path / "out.mp4", store=True)
    assert len(asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_does_the_same(
    scripted: ScriptedService,
    asked: list[pb.ReconstructVideoSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    service = ["--address", scripted.address]
    assert main(["reconstruct", "films/bunny", *service]) == 0
    assert Path("bunny.reconstruction.mp4").read_bytes() == b"mp4"
    assert capsys.readouterr().err.splitlines()[-1] == f"in the library: {RENDITION}"
    Path("holiday.mp4").write_bytes(b"x")
    assert main(["reconstruct", "holiday.mp4", "--store", "--id", "holiday", *service]) == 0
    assert (asked[-1].store, asked[-1].title, asked[-1].film_id) == (True, "holiday", "holiday")


def test_the_rate_is_that_of_what_is_made() -> None:
    times = iter([0.0, 1.0, 3.0])
    facts = film().facts
    shared = {
        field.name: getattr(facts, field.name)
        for field in dataclasses.fields(facts)
        if field.name != "estimated_frames"
    }
    model = refilm.ModelIdentity("pca", 1, "sha256:0")
    measured = Meter(None, clock=lambda: next(times))
    measured.start(
        refilm.FilmFacts(
            **shared, estimated_frames=480, model=model, output_width=256, output_height=144
        )
    )
    # What is there comes at once, and says nothing of what is to come.
    first = measured.progress(pb.ReconstructVideoProgress(frames_written=240, frames_reused=240))
    assert first.frames_per_second == 240
    then = measured.progress(pb.ReconstructVideoProgress(frames_written=270, frames_reused=240))
    assert (then.frames_per_second, then.eta) == (10, 21)
