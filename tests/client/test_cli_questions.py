"""The command line's questions, as a person or a script meets them."""

import importlib.abc
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image
from refilm.v1 import autoencoder_pb2
from refilm.v1 import latents_pb2 as pb

from tests.client.library import Library, passage, questions_of
from tests.client.scripted_service import IDENTITY
from tests.client.shell import Shell, kinds

LATENT = np.linspace(-1, 1, 200, dtype=np.float32)
MODEL = {"name": "pca", "version": 2, "digest": IDENTITY.digest}


def preview(index: int) -> bytes:
    """Return a JPEG in a colour of its own."""
    picture = np.zeros((144, 256, 3), np.uint8)
    picture[..., index % 3] = np.linspace(40, 255, 256, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    return file.getvalue()


def found(request: pb.SearchFramesRequest) -> pb.SearchFramesResponse:
    hits = [
        passage(
            pb.SearchHit,
            60 * index,
            60 * index + 2,
            film="films/bunny",
            title="Big Buck Bunny, or a title that goes on for far longer than any picture is wide",
            best_time=Duration(seconds=60 * index + 1, nanos=500_000_000),
            similarity=1 - index / 8,
            preview=preview(index) if request.include_previews else b"",
        )
        for index in range(min(6, request.page_size))
    ]
    return pb.SearchFramesResponse(
        hits=hits, model=IDENTITY, query_warning="it is flat", films_searched=2, films_left_out=1
    )


@pytest.fixture(autouse=True)
def picture(library: Library, shell: Shell) -> Path:
    library.answers["SearchFramesRequest"] = found
    path = shell.folder / "picture.jpg"
    path.write_bytes(preview(0))
    return path


def cells(out: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]


def test_a_search_shows_where_it_looks_like_that(library: Library, shell: Shell) -> None:
    out, error = shell(
        *("search", "picture.jpg", "--film", "bunny", "--film", "films/sintel", "-k", "2"),
        *("--from", "1:00", "--to", "90s", "--min-similarity", "0.5", "--skip", "3"),
    )
    title = "Big Buck Bunny, or a title that goes on for far longer than any picture is wide"
    assert cells(out) == [
        ["FILM", "TITLE", "FROM", "TO", "BEST", "SIMILARITY"],
        ["films/bunny", title, "0:00.000", "0:02.000", "0:01.500", "1.000"],
        ["films/bunny", title, "1:00.000", "1:02.000", "1:01.500", "0.875"],
    ]
    assert error.splitlines() == [
        "pca v2: 2 films searched, 1 left out: not indexed for it",
        "warning: it is flat",
    ]
    (asked,) = questions_of(library, pb.SearchFramesRequest)
    assert asked.frame.image == preview(0)
    assert list(asked.films) == ["films/bunny", "films/sintel"]
    assert (asked.page_size, asked.skip, asked.min_similarity) == (2, 3, 0.5)
    assert (asked.range.start_time.seconds, asked.range.end_time.seconds) == (60, 90)
    assert not asked.include_previews


def test_a_search_by_moment_and_by_latent(library: Library, shell: Shell) -> None:
    shell("search", "films/bunny@1:23.4")
    moment = library.requests[-1].moment
    assert (moment.film, moment.time.seconds, moment.time.nanos) == (
        "films/bunny",
        83,
        400_000_000,
    )
    np.save(shell.folder / "one.npy", LATENT)
    shell("search", "--latent", "one.npy")
    assert np.allclose(library.requests[-1].latent.floats.values, LATENT)
    line = json.dumps({"latent": LATENT.tolist(), "model": MODEL})
    (shell.folder / "one.jsonl").write_text(line)
    shell("search", "--latent", "one.jsonl")
    assert library.requests[-1].model.digest == IDENTITY.digest


def test_a_search_for_programs(shell: Shell) -> None:
    (result,) = shell.json("search", "picture.jpg", "-k", "1", "--save", "sheet.png")
    assert kinds(result) == {
        "hits": "list",
        "model": "dict",
        "warning": "str",
        "films_searched": "int",
        "films_left_out": "int",
        "saved": "str",
    }
    assert kinds(result["hits"][0]) == {
        "film": "str",
        "title": "str",
        "start": "float",
        "end": "float",
        "best": "float",
        "similarity": "float",
    }
    assert result["model"] == MODEL


def test_the_previews_are_saved_as_one_picture(library: Library, shell: Shell) -> None:
    _, error = shell("search", "picture.jpg", "--save", "sheet.png")
    assert "sheet.png: 6 previews" in error
    assert library.requests[-1].include_previews
    with Image.open(shell.folder / "sheet.png") as opened:
        sheet = np.asarray(opened.convert("RGB")).astype(int)
    # Four beside each other, and two below; each shows its colour, its title within its width.
    assert sheet.shape == (12 + 2 * (144 + 34 + 24), 12 + 4 * (256 + 12), 3)
    for index in range(6):
        left, top = 12 + index % 4 * 268, 12 + index // 4 * 202
        cell = sheet[top : top + 144, left + 128 : left + 256]
        assert cell.mean((0, 1)).argmax() == index % 3
        assert sheet[top + 146 : top + 180, left : left + 256].max() > 200
    for gap in (0, 268, 2 * 268):
        assert sheet[:, gap : gap + 12].max() < 30
    shell("search", "picture.jpg", "--save", "sheet.jpg", "-k", "1")
    with Image.open(shell.folder / "sheet.jpg") as small:
        assert small.size == (12 + 268, 12 + 202)


def test_without_pillow_saving_is_refused_before_the_search(
    library: Library, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NotInstalled(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] == "PIL":
                raise ImportError("no module named PIL")

    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(), *sys.meta_path])
    _, error = shell("search", "picture.jpg", "--save", "sheet.png", code=2)
    assert error == 'refilm: --save needs Pillow: pip install "refilm[cli]"\n'
    assert library.requests == []


def test_faults_are_one_line(library: Library, shell: Shell) -> None:
    np.save(shell.folder / "two.npy", np.zeros((2, 200), np.float32))
    (shell.folder / "full").mkdir()
    (shell.folder / "full" / "file").touch()
    between = ("interpolate", "a@1", "b@2", "-o")
    for arguments, code, words in (
        (("search",), 2, "name a picture, a moment such as films/NAME@1:23.4, or --latent FILE"),
        (("search", "a.jpg", "--latent", "b.npy"), 2, "name a picture"),
        (("search", "missing.jpg"), 1, "missing.jpg: No such file or directory"),
        (("search", "films/bunny@noon"), 1, "'noon' is no time"),
        (("search", "--latent", "two.npy"), 2, "holds 2 latents: a search takes one"),
        (("search", "picture.jpg", "--save", "sheet.gif"), 2, "not as sheet.gif"),
        (("match", "missing.mp4"), 1, "missing.mp4: No such file or directory"),
        ((*between, "out.avi"), 2, "a film (.mp4) or a folder, not out.avi"),
        ((*between, "full"), 2, "full is there already and not empty"),
        ((*between, "out.mp4", "--format", "png"), 2, "--format is for pictures"),
        (("latents", "bunny", "-o", "x.csv"), 1, "name the format"),
    ):
        out, error = shell(*arguments, code=code)
        assert words in error
        assert (out, error.count("\n")) == ("", 1)


def test_argparse_explains_times_and_moments(shell: Shell) -> None:
    for arguments in (
        ("search", "picture.jpg", "--from", "1:99"),
        ("interpolate", "a", "b@1", "-o", "x"),
        ("match", "a.mp4", "-k", "0"),
    ):
        with pytest.raises(SystemExit) as left:
            shell(*arguments)
        assert left.value.code == 2


def test_match_says_where_a_clip_lies(library: Library, shell: Shell) -> None:
    (shell.folder / "clip.mp4").write_bytes(b"a clip")
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
    answer = pb.MatchClipResponse(
        matches=[match], model=IDENTITY, bars=pb.CroppedBars(top=20), films_searched=1
    )
    library.answers["MatchClipSettings"] = answer
    out, error = shell("match", "clip.mp4")
    assert cells(out)[1] == [
        *("films/bunny", "Bunny", "1:00.000", "1:05.000", "0:00.000", "0:05.000", "0.75", "0.500")
    ]
    assert error.splitlines() == [
        "pca v2: 1 film searched",
        "bars cut off: left 0, top 20, right 0, bottom 0 pixels",
    ]
    assert library.clip == b"a clip"
    (result,) = shell.json("match", "clip.mp4", "-k", "3", "--film", "bunny")
    assert library.requests[-1].max_matches == 3
    assert kinds(result) == {
        "matches": "list",
        "model": "dict",
        "clip_duration": "float",
        "frames_compared": "int",
        "warning": "str",
        "bars": "dict",
        "films_searched": "int",
        "films_left_out": "int",
    }
    assert result["matches"][0]["clip_end"] == 5.0
    answer.ClearField("matches")
    assert shell("match", "clip.mp4")[0] == "no film of the library shows this clip\n"


def test_duplicates(library: Library, shell: Shell) -> None:
    pair = pb.DuplicatePair(
        first=passage(pb.Passage, 1, 4, film="films/a"),
        second=passage(pb.Passage, 9, 12, film="films/b"),
        similarity=0.75,
    )
    library.answers["FindDuplicatesRequest"] = pb.FindDuplicatesResponse(
        pairs=[pair], model=IDENTITY
    )
    out, _ = shell("duplicates", "--film", "a", "--min-duration", "1m30s")
    assert cells(out)[1] == [
        *("films/a", "0:01.000", "0:04.000", "films/b", "0:09.000", "0:12.000", "0.750")
    ]
    assert library.requests[-1].min_duration.seconds == 90
    (result,) = shell.json("duplicates")
    assert kinds(result) == {
        "first": "dict",
        "second": "dict",
        "similarity": "float",
        "model": "dict",
    }
    assert kinds(result["first"]) == {
        "film": "str",
        "title": "str",
        "start": "float",
        "end": "float",
    }


def test_what_lies_between_as_pictures_or_as_a_film(library: Library, shell: Shell) -> None:
    frame = autoencoder_pb2.Frame(image=preview(1))
    pictures = [pb.InterpolateResponse(frame=frame)] * 12
    library.answers["InterpolateRequest"] = [pb.InterpolateResponse(model=IDENTITY), *pictures]
    out, _ = shell("interpolate", "a@12.5", "films/b@1:00", "--steps", "12", "-o", "between")
    assert out == "between: 12 pictures, pca v2\n"
    names = sorted(path.name for path in (shell.folder / "between").iterdir())
    assert names == [f"picture-{index:02}.jpg" for index in range(1, 13)]
    assert (shell.folder / "between" / names[3]).read_bytes() == preview(1)
    asked = library.requests[-1]
    assert (asked.start.moment.film, asked.end.moment.time.seconds) == ("films/a", 60)

    library.answers["InterpolateRequest"] = [
        pb.InterpolateResponse(model=IDENTITY),
        pb.InterpolateResponse(chunk=b"a film"),
    ]
    (result,) = shell.json("interpolate", "a@1", "b@2", "-o", "x.mp4", "--frame-rate", "12")
    assert result == {"output": "x.mp4", "pictures": 24, "model": MODEL}
    assert (shell.folder / "x.mp4").read_bytes() == b"a film"
    assert {path.name for path in shell.folder.iterdir()} == {"picture.jpg", "between", "x.mp4"}


def test_latents_of_a_film(library: Library, shell: Shell) -> None:
    library.answers["ExportLatentsRequest"] = [pb.ExportLatentsResponse(chunk=b"x" * 1500)]
    assert shell("latents", "bunny", "-o", "x.arrow")[0] == "x.arrow: 1.5 kB\n"
    assert library.requests[-1].format == pb.LATENTS_FORMAT_ARROW
    assert shell.json("latents", "bunny", "-o", "x.npy") == [
        {"film": "films/bunny", "output": "x.npy", "size": 1500}
    ]
