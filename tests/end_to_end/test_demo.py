"""`make demo`, as a newcomer runs it."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import av
import pytest
import refilm
from PIL import Image

from tests.film.clips import Track, make_clip
from tests.support.service_process import wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "My Holiday.mkv"
    make_clip(path, frames=48, sound=[Track()])
    return path


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """What `make demo` runs, to be run here."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    monkeypatch.setenv("REFILM_DEMO_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    return module


def start(film: Path, home: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["make", "--no-print-directory", "demo", f"FILM={film}", *options],
        cwd=ROOT,
        env=os.environ | {"REFILM_DEMO_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # to be interrupted as a terminal would
        # Where tests run in the background, a shell may have had them ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def demo(film: Path, home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    process = start(film, home, *options)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def paths_named(out: str) -> dict[str, Path]:
    named = re.findall(r"^  (\S.*?)  +(\S.*)$", out, re.MULTILINE)
    return {what: (ROOT / path).resolve() for what, path in named}


def has_steps(home: Path) -> bool:
    """Whether a training is past its memory."""
    return any('"step"' in curve.read_text() for curve in home.rglob("preview.jsonl"))


def tracked_changes() -> str:
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout


def frame_times(path: Path) -> list[float]:
    with av.open(str(path), "r") as container:
        return [frame.time for frame in container.decode(video=0) if frame.time is not None]


def test_the_project_s_film_needs_no_training(
    film: Path,
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(module, "CLIP", film)  # a short one, for time's sake
    module.main()
    out, err = capfd.readouterr()
    paths = paths_named(out)
    assert set(paths) == {"reconstruction", "beside the original", "contact sheet"}
    assert frame_times(paths["reconstruction"]) == pytest.approx(frame_times(film))
    assert not list(tmp_path.rglob("run.json")) and "Published" not in err
    with Image.open(paths["contact sheet"]) as sheet:
        assert sheet.width > 1000

    made = {what: path.stat().st_mtime_ns for what, path in paths.items()}
    module.main()
    assert {what: path.stat().st_mtime_ns for what, path in paths.items()} == made
    assert "PSNR" in capfd.readouterr().out

    paths["beside the original"].unlink()
    module.main()
    assert paths["reconstruction"].stat().st_mtime_ns == made["reconstruction"]
    assert frame_times(paths["beside the original"]) == pytest.approx(frame_times(film))


def test_a_service_that_dies_under_it_is_reported_with_what_it_said_last(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "examples/demo.py"],
        cwd=ROOT,
        env=os.environ | {"REFILM_DEMO_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: list(tmp_path.rglob(".*.unfinished")) or demo.poll(), "the reconstruction")
    assert demo.poll() is None, demo.communicate()
    (addresses,) = tmp_path.rglob("service.json")
    os.kill(json.loads(addresses.read_text())["pid"], signal.SIGKILL)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 1, out + err
    first, second, *said = err.splitlines()
    assert first == (
        "The service exited (exit status -9, SIGKILL). Run the same command again to resume."
    )
    log = addresses.with_name("service.log")
    assert second == f"Its log, {log}, ends with:"
    assert said and said == log.read_text().splitlines()[-len(said) :]
    assert "Traceback" not in out + err
    assert not list(tmp_path.rglob("*.mp4")) and not list(tmp_path.rglob(".*.unfinished"))


def test_a_service_that_lives_and_does_not_answer_is_reported(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise refilm.UnavailableError("nobody is\nthere")

    monkeypatch.setattr(module, "reconstruct", unreachable)
    with pytest.raises(SystemExit) as ended:
        module.main()
    first, second, *said = str(ended.value).splitlines()
    assert first == (
        "The service cannot answer: nobody is there. Run the same command again to resume."
    )
    assert "service.log" in second and said


def test_a_service_that_does_not_start_is_reported_with_what_it_said_last(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFILM_MAX_RECONSTRUCTIONS", "some")
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert "The service exited (exit status 2)." in str(ended.value)
    assert "REFILM_MAX_RECONSTRUCTIONS" in str(ended.value).splitlines()[-1]


def test_what_the_service_refuses_is_reported_in_a_line(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    letter = tmp_path / "letter.mp4"
    letter.write_text("Dear reader, this is not a film. " * 100)
    monkeypatch.setattr(module, "CLIP", letter)
    with pytest.raises(SystemExit) as ended:
        module.main()
    (line,) = str(ended.value).splitlines()
    assert line.startswith(f"{letter} cannot be reconstructed: ") and "film" in line


def test_a_film_of_one_s_own_is_learned_interrupted_resumed_and_reused(
    film: Path, tmp_path: Path
) -> None:
    before = tracked_changes()
    interrupted = start(film, tmp_path, "MINUTES=0.1")
    wait_for(lambda: has_steps(tmp_path) or interrupted.poll(), "the training")
    os.killpg(interrupted.pid, signal.SIGINT)
    out, err = interrupted.communicate()
    assert interrupted.returncode != 0 and "same command again to resume" in out, out + err
    assert "Traceback" not in out + err

    first = demo(film, tmp_path, "MINUTES=0.1")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Resuming from the checkpoint" in first.stderr
    assert "watch it improve" in out
    with Image.open(paths_named(out)["live preview"]) as picture:
        assert picture.width > 1000
    assert re.search(r"PSNR \d+\.\d dB; PCA with the same 200 numbers: \d+\.\d dB", first.stdout)

    paths = paths_named(first.stdout)
    assert paths.pop("live preview") == paths_named(out)["live preview"]
    assert set(paths) == {"reconstruction", "beside the original", "contact sheet"}
    for what in ("reconstruction", "beside the original"):
        with av.open(str(paths[what]), "r") as container:
            assert [stream.codec_context.name for stream in container.streams.audio] == ["aac"]
        assert frame_times(paths[what]) == pytest.approx(frame_times(film))
    with Image.open(paths["contact sheet"]) as sheet:
        assert sheet.width > 1000

    made = {what: path.stat().st_mtime_ns for what, path in paths.items()}
    second = demo(film, tmp_path, "MINUTES=0.1")
    assert second.returncode == 0, second.stdout + second.stderr
    assert {what: path.stat().st_mtime_ns for what, path in paths.items()} == made
    assert "PSNR" in second.stdout
    assert tracked_changes() == before


def test_a_film_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = demo(tmp_path / "nowhere.mp4", tmp_path / "home")
    assert done.returncode != 0
    assert "nowhere.mp4" in done.stderr


def test_what_is_no_film_is_refused_in_the_trainer_s_words(
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    text = tmp_path / "letter.mp4"
    text.write_text("Dear reader, this is not a film. " * 100)
    monkeypatch.setattr(sys, "argv", ["demo.py", str(text)])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("Error: ") and "letter.mp4" in line


def test_minutes_without_a_film_are_refused_in_words(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.py", "--minutes", "3"])
    with pytest.raises(SystemExit):
        module.main()
    assert "needs no training" in capsys.readouterr().err
