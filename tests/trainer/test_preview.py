"""The picture of a training that improves, and the curve beside it."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.trainer.loop_process import IDENTITY, MadeUpFrames
from trainer.checkpoint import State
from trainer.distributed import Group
from trainer.loop import LoopSettings, Outcome, fit


class Clock:
    """Stands still but for what is done."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Improving:
    """Comes one grey level nearer with each step; a step and a look at it take a second each."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps = torch.zeros(1)

    def step(self, frames: torch.Tensor) -> Mapping[str, torch.Tensor]:
        self._clock.now += 1
        self._steps += 1
        return {"loss": torch.tensor(1.0)}

    def reconstruct(self, frames: torch.Tensor) -> torch.Tensor:
        self._clock.now += 1
        wrong = 100 - int(self._steps)
        return torch.where(frames > 127, frames - wrong, frames + wrong)

    def state_dict(self) -> State:
        return {"steps": self._steps}

    def load_state_dict(self, state: State) -> None:
        steps = state["steps"]
        assert isinstance(steps, torch.Tensor)
        self._steps = steps


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def train(run: Path, clock: Clock, steps: int, group: Group | None = None) -> Outcome:
    settings = LoopSettings(batch=2, steps=steps)
    return fit(Improving(clock), MadeUpFrames(), run, settings, group or Group(), IDENTITY)


def curve(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "preview.jsonl").read_text().splitlines()]


def test_it_is_drawn_at_the_start_every_twenty_seconds_and_at_the_end(
    tmp_path: Path, clock: Clock
) -> None:
    outcome = train(tmp_path, clock, 50)
    lines = curve(tmp_path)
    assert [line["step"] for line in lines] == [0, 20, 40, 50]
    # Looking at it took time as well, and is not counted.
    assert [line["seconds"] for line in lines] == [0, 20, 40, 50]
    assert outcome.seconds == 50
    # 20 log10(255 / wrong), the same for every frame.
    assert [line["psnr"] for line in lines] == pytest.approx([8.13, 10.07, 12.57, 14.15], abs=0.01)
    with Image.open(tmp_path / "preview.png") as picture:
        picture.load()
        assert picture.width > 6 * 256 and picture.height > 2 * 144
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_the_progress_shows_its_psnr(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, clock, 40)
    lines = [line for line in capsys.readouterr().err.splitlines() if "preview" in line]
    assert "step 1 " in lines[0] and "preview 8.1 dB" in lines[0]
    assert "preview 10.1 dB" in lines[1]


def test_a_run_that_is_resumed_keeps_its_curve_and_no_step_is_there_twice(
    tmp_path: Path, clock: Clock
) -> None:
    train(tmp_path, clock, 25)
    # What a kill may leave: steps that no checkpoint holds, and half a line.
    with (tmp_path / "preview.jsonl").open("a") as file:
        file.write('{"seconds": 45.0, "step": 45, "psnr": 13.3}\n{"seconds": 6')
    train(tmp_path, clock, 50)
    assert [line["step"] for line in curve(tmp_path)] == [0, 20, 25, 45, 50]
    assert [line["seconds"] for line in curve(tmp_path)] == [0, 20, 25, 45, 50]
    train(tmp_path, clock, 50)
    assert [line["step"] for line in curve(tmp_path)] == [0, 20, 25, 45, 50]


def test_one_process_of_several_draws(tmp_path: Path, clock: Clock) -> None:
    class Second(Group):
        def max_over_processes(self, values: object) -> list[int]:
            return list(values)  # type: ignore[call-overload]

    train(tmp_path, clock, 2, Second(rank=1, world=2))
    assert list(tmp_path.iterdir()) == []
