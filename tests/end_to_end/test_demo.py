"""`make demo`, as a newcomer runs it, on a short film of their own."""

import os
import re
import subprocess
from pathlib import Path

import av
import pytest
from PIL import Image

from tests.film.clips import Track, make_clip

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "My Holiday.mkv"
    make_clip(path, frames=48, sound=[Track()])
    return path


def demo(film: Path, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", "demo", f"FILM={film}"],
        cwd=ROOT,
        env=os.environ | {"REFILM_DEMO_HOME": str(home)},
        capture_output=True,
        text=True,
    )


def tracked_changes() -> str:
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout


def frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0) if frame.time is not None]


def test_the_demo_makes_what_it_names_and_then_reuses_it(film: Path, tmp_path: Path) -> None:
    before = tracked_changes()
    first = demo(film, tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr

    paths = {
        what: (ROOT / path).resolve()
        for what, path in re.findall(r"^  (\S.*?)  +(\S.*)$", first.stdout, re.MULTILINE)
    }
    assert set(paths) == {"reconstruction", "beside the original", "contact sheet"}
    for what in ("reconstruction", "beside the original"):
        with av.open(str(paths[what])) as container:
            assert [stream.codec_context.name for stream in container.streams.audio] == ["aac"]
        assert frame_times(paths[what]) == pytest.approx(frame_times(film))
    with Image.open(paths["contact sheet"]) as sheet:
        assert sheet.width > 1000

    made = {what: path.stat().st_mtime_ns for what, path in paths.items()}
    second = demo(film, tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert {what: path.stat().st_mtime_ns for what, path in paths.items()} == made
    assert "PSNR" in second.stdout
    assert tracked_changes() == before


def test_a_film_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = demo(tmp_path / "nowhere.mp4", tmp_path / "home")
    assert done.returncode != 0
    assert "nowhere.mp4" in done.stderr


def test_what_is_no_film_is_refused_in_words(tmp_path: Path) -> None:
    text = tmp_path / "letter.mp4"
    text.write_text("Dear reader, this is not a film. " * 100)
    done = demo(text, tmp_path / "home")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert "film" in done.stderr
