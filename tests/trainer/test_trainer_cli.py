from pathlib import Path

import pytest

from tests.trainer.film_clips import clip_of_scenes
from trainer.__main__ import main


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail with a plain message; return the message."""
    assert main([str(argument) for argument in arguments]) == 1
    told = capsys.readouterr().err
    assert told.startswith("Error: ") and "Traceback" not in told
    return told


def test_mistakes_are_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    assert "film.mp4" in error_of(capsys, "prepare", tmp_path / "film.mp4", "--out", nowhere)
    assert "holds no prepared data set" in error_of(
        capsys, "train", "--recipe", "pca", "--data", nowhere, "--run", tmp_path / "run"
    )
    assert "holds no finished run" in error_of(
        capsys, "publish", "--run", nowhere, "--name", "x", "--repository", tmp_path / "models"
    )
    assert "holds no finished run" in error_of(
        capsys, "evaluate", "--run", nowhere, "--data", nowhere
    )
    assert "needs --name and --out" in error_of(
        capsys, "evaluate", "--repository", nowhere, "--data", nowhere
    )
    assert "does not hold any version of x" in error_of(
        *(capsys, "evaluate", "--repository", nowhere, "--name", "x", "--data", nowhere),
        *("--out", tmp_path / "out"),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "film.mp4", "--out", "data", "--every", "0"],
        ["prepare", "film.mp4", "--out", "data", "--every", "2", "--per-shot", "2"],
        ["train", "--recipe", "unheard-of", "--data", "data", "--run", "run"],
        ["evaluate", "--data", "data"],
        [],
    ],
)
def test_commands_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_a_run_that_was_being_finished_when_killed_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip_of_scenes(tmp_path / "film.mp4", [5, 5])
    data, run = str(tmp_path / "data"), tmp_path / "run"
    assert main(["prepare", str(tmp_path / "film.mp4"), "--out", data]) == 0
    train = ["train", "--recipe", "pca", "--data", data, "--run", str(run)]
    assert main(train) == 0
    # Killed while the new decoder was being written: the new encoder is in place already.
    (run / "encoder.pt").write_bytes((run / "decoder.pt").read_bytes())
    (run / ".staging").mkdir()
    (run / ".staging" / "decoder.pt").write_bytes(b"half a file")
    capsys.readouterr()
    publish = ("publish", "--run", run, "--name", "film", "--repository", tmp_path / "models")
    assert "train it again" in error_of(capsys, *publish)
    assert main(train) == 0
    assert main([str(argument) for argument in publish]) == 0
