import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainer.film_clips import clip_of_scenes
from trainer.__main__ import main
from trainer.contact_sheet import Pair, clock, draw_sheet
from trainer.dataset import FrameDataset


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 52 s with its fifth block unlike the rest, another film, and a run on the first."""
    folder = tmp_path_factory.mktemp("workshop")
    clip_of_scenes(folder / "film.mp4", [80, 20, 4], rate=2)
    clip_of_scenes(folder / "other.mp4", [10, 10], rate=24)
    for name in ("film", "other"):
        call("prepare", folder / f"{name}.mp4", "--out", folder / name)
    call("train", "--recipe", "pca", "--data", folder / "film", "--run", folder / "run")
    return folder


def call(*arguments: object, status: int = 0) -> None:
    assert main([str(argument) for argument in arguments]) == status


def evaluate(workshop: Path, out: Path, *arguments: object, data: str = "film") -> dict[str, dict]:
    call("evaluate", "--run", workshop / "run", "--data", workshop / data, "--out", out, *arguments)
    return metrics_of(out)


@pytest.fixture(scope="module")
def evaluated(workshop: Path) -> Path:
    """The run's own evaluation, of every frame."""
    call("evaluate", "--run", workshop / "run", "--data", workshop / "film")
    return workshop / "run" / "evaluation"


def metrics_of(evaluated: Path) -> dict[str, dict]:
    metrics: dict[str, dict] = json.loads((evaluated / "metrics.json").read_text())
    return metrics


def test_fitted_and_held_out_blocks_are_told_apart(evaluated: Path) -> None:
    groups = metrics_of(evaluated)["groups"]
    assert {name: group["frames"] for name, group in groups.items()} == {
        "all": 104,
        "fitted": 84,
        "held_out": 20,
    }
    assert groups["fitted"]["psnr"]["mean"] > 35 > 25 > groups["held_out"]["psnr"]["mean"]
    for group in groups.values():
        for measure in ("psnr", "ssim", "ms_ssim", "haarpsi"):
            assert group[measure]["worst_5_percent"] <= group[measure]["mean"]
        assert group["temporal"]["error"] >= 0
    assert groups["fitted"]["temporal"]["correlation"] > 0.95


def test_every_frame_has_its_measures(workshop: Path, evaluated: Path) -> None:
    groups = metrics_of(evaluated)["groups"]
    data = FrameDataset.open(workshop / "film")
    with np.load(evaluated / "frames.npz") as frames:
        assert np.array_equal(frames["pts"], data.pts)
        assert np.array_equal(frames["held_out"], data.is_held_out)
        assert frames["psnr"].mean() == pytest.approx(groups["all"]["psnr"]["mean"], abs=1e-3)
        # No change is taken into the first frame, nor across the two cuts.
        assert np.flatnonzero(np.isnan(frames["temporal_error"])).tolist() == [0, 80, 100]


@pytest.mark.parametrize("every", [2, 7, 200])
def test_measuring_fewer_frames_gives_those_frames_the_same_measures(
    workshop: Path, evaluated: Path, tmp_path: Path, every: int
) -> None:
    evaluate(workshop, tmp_path, "--every", every)
    whole, part = np.load(evaluated / "frames.npz"), np.load(tmp_path / "frames.npz")
    assert part["index"].tolist() == list(range(0, 104, every))
    for measure in ("psnr", "ssim", "ms_ssim", "haarpsi", "luma", "level", "temporal_error"):
        assert np.allclose(part[measure], whole[measure][::every], atol=2e-2, equal_nan=True)


def test_latents_of_few_bits_are_measured_as_such(
    workshop: Path, evaluated: Path, tmp_path: Path
) -> None:
    few = ("--data", workshop / "film", "--every", 10)
    call("evaluate", "--run", workshop / "run", *few, "--bits", 8)
    eight = metrics_of(workshop / "run" / "evaluation_8_bits")
    one = evaluate(workshop, tmp_path, "--every", 10, "--bits", 1)
    whole = metrics_of(evaluated)
    assert (whole["bits"], eight["bits"], one["bits"]) == (None, 8, 1)
    psnr: dict[Any, float] = {
        each["bits"]: each["groups"]["fitted"]["psnr"]["mean"] for each in (whole, eight, one)
    }
    assert psnr[None] - 1 < psnr[8] <= psnr[None]
    assert psnr[1] < psnr[None] - 5


@pytest.mark.parametrize("bits", [0, 17, "many"])
def test_bits_that_no_latent_has_are_refused(workshop: Path, tmp_path: Path, bits: object) -> None:
    with pytest.raises(SystemExit) as exit_:
        evaluate(workshop, tmp_path, "--bits", bits)
    assert exit_.value.code == 2
    assert not list(tmp_path.iterdir())


def test_another_film_through_this_ones_memory_is_unseen(workshop: Path, tmp_path: Path) -> None:
    groups = evaluate(workshop, tmp_path, data="other")["groups"]
    assert set(groups) == {"all", "unseen"}


def test_a_published_model_measures_as_its_run(
    workshop: Path, evaluated: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "models"
    call("publish", "--run", workshop / "run", "--name", "film", "--repository", repository)
    call(
        *("evaluate", "--repository", repository, "--name", "film", "--data", workshop / "film"),
        *("--out", tmp_path / "published"),
    )
    ours, theirs = metrics_of(tmp_path / "published"), metrics_of(evaluated)
    assert ours["groups"] == theirs["groups"]
    card = json.loads((repository / "film_encoder" / "1" / "card.json").read_text())
    assert card["metrics"] == theirs["summary"]
    assert set(card["metrics"]["held_out"]) == {"psnr", "ssim", "ms_ssim", "haarpsi"}
    assert card["digest"] == ours["model"]["digest"]
    assert card["films"][0]["title"] == "film"
    assert card["frames"] == 84


def test_measures_of_an_earlier_training_are_not_published(workshop: Path, tmp_path: Path) -> None:
    call("train", "--recipe", "pca", "--data", workshop / "film", "--run", tmp_path / "run")
    call("evaluate", "--run", tmp_path / "run", "--data", workshop / "film", "--every", 50)
    call(
        *("train", "--recipe", "pca", "--data", workshop / "film", "--run", tmp_path / "run"),
        *("--fit", "all"),
    )
    call(
        *("publish", "--run", tmp_path / "run", "--name", "film"),
        *("--repository", tmp_path / "models"),
    )
    card = json.loads((tmp_path / "models" / "film_encoder" / "1" / "card.json").read_text())
    assert "metrics" not in card


def test_the_sheet_shows_frames_in_even_steps(workshop: Path, tmp_path: Path) -> None:
    evaluate(workshop, tmp_path, "--every", 50, "--step", 26)
    data = FrameDataset.open(workshop / "film")
    sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
    source = data.frames(np.array([0, 26, 52, 78]))
    places = [column_of(sheet, frame) for frame in source]
    assert places == sorted(places)
    assert len(set(np.diff(places))) == 1


def column_of(sheet: np.ndarray, frame: np.ndarray) -> int:
    """Find where a frame lies on a sheet, to the pixel."""
    rows, columns = sheet.shape[0] - 144, sheet.shape[1] - 256
    for top in range(rows):
        matches = (sheet[top, : columns + 1] == frame[0, 0]).all(1)
        for left in np.flatnonzero(matches):
            if np.array_equal(sheet[top : top + 144, left : left + 256], frame):
                return int(left)
    raise AssertionError("the frame is not on the sheet")


def test_a_step_too_small_for_a_sheet_is_refused(workshop: Path, tmp_path: Path) -> None:
    long = clip_of_scenes(tmp_path / "long.mp4", [500], rate=24)
    call("prepare", long, "--out", tmp_path / "long")
    arguments = ("--run", workshop / "run", "--data", tmp_path / "long", "--out", tmp_path / "out")
    call("evaluate", *arguments, "--every", 100, "--step", 1, status=1)


def test_pictures_keep_their_films_shape(tmp_path: Path) -> None:
    frame = np.full((144, 256, 3), 200, np.uint8)
    wide = Pair(frame, frame, Fraction(61), (640, 274))
    draw_sheet([wide], 1, tmp_path / "sheet.png", title="wide", note="")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    lit = (sheet == 200).all(2)
    assert lit.sum() == 2 * 256 * 110


def test_times_are_written_as_clocks() -> None:
    assert [clock(Fraction(s)) for s in (0, 59, 61, 3661)] == ["0:00", "0:59", "1:01", "1:01:01"]
