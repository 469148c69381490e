import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer.loop_process import IDENTITY, MadeUpFrames
from trainer import checkpoint
from trainer.checkpoint import CheckpointError, State
from trainer.distributed import Group
from trainer.errors import DatasetError, TrainerError
from trainer.loop import DivergenceError, LoopSettings, fit
from trainer.sampler import Order, batches

PROCESS = Path(__file__).parent / "loop_process.py"
ROOT = Path(__file__).parents[2]


def start(run: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROCESS), str(run), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a good end; return what it printed, progress last."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return err + out


def stop_after(process: subprocess.Popen[str], steps: int, how: signal.Signals) -> None:
    """Send a signal once the process has said that it did so many steps."""
    assert process.stdout is not None
    for _ in range(steps):
        assert process.stdout.readline() == "did a step\n"
    process.send_signal(how)


def assert_equal(ours: object, theirs: object) -> None:
    if isinstance(ours, torch.Tensor):
        assert isinstance(theirs, torch.Tensor) and torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert isinstance(theirs, dict) and ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert_equal(value, theirs[key])
    else:
        assert ours == theirs


def final(run: Path) -> object:
    return torch.load(run / "final_0.pt", weights_only=True)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "uninterrupted"
    finish(start(run, "--steps", "9"))
    return run


def test_killed_and_started_again_it_reaches_the_same_bits(
    uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # The second step begins once the first one's checkpoint is written.
    before = random.randint(2, 7)
    killed = start(run, "--steps", "9")
    stop_after(killed, before, signal.SIGKILL)
    killed.wait(60)
    # The signal comes during a checkpoint, a sample grid or a step; all of them must do.
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "checkpoints" / "step_00000005.tmp").write_bytes(b"half a checkpoint")

    assert "Resuming from the checkpoint of step" in finish(start(run, "--steps", "9"))

    assert_equal(final(run), final(uninterrupted))
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == [
        "step_00000008.pt",
        "step_00000009.pt",
    ]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_a_checkpoint_to_resume_from(
    how: signal.Signals, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # No checkpoint is due for an hour: the one that is there was written for the signal.
    process = start(run, "--steps", "9", "--checkpoint-minutes", "60")
    stop_after(process, 2, how)
    out = finish(process)

    assert out.splitlines()[-1].endswith(f" {how.value}")
    (path,) = checkpoint.paths(run)
    assert 2 <= checkpoint.step_of(path) < 9

    finish(start(run, "--steps", "9"))
    assert_equal(final(run), final(uninterrupted))


def test_minutes_end_it_and_more_minutes_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = finish(start(run, "--minutes", "0.001")).splitlines()[-1].split()
    assert first[0] == "ended" and int(first[1]) >= 1
    same = finish(start(run, "--minutes", "0.001")).splitlines()[-1].split()
    assert same == first
    more = finish(start(run, "--minutes", "0.02")).splitlines()[-1].split()
    assert int(more[1]) > int(first[1])


def test_events_and_sample_grids_are_written_once_a_step(uninterrupted: Path) -> None:
    events = EventAccumulator(str(uninterrupted / "events")).Reload()
    assert [event.step for event in events.Scalars("loss/similarity")] == list(range(1, 10))
    assert [event.step for event in events.Images("samples")] == [3, 6, 9]
    with Image.open(uninterrupted / "samples" / "step_00000009.png") as grid:
        assert grid.size == (3 * 256, 4 * 144)


class Drifting:
    """A learner whose loss becomes NaN at its fifth step."""

    def __init__(self) -> None:
        self.steps = torch.zeros(1)

    def step(self, frames: torch.Tensor) -> Mapping[str, torch.Tensor]:
        self.steps += 1
        return {"loss": torch.tensor(float("nan") if self.steps >= 5 else 1.0)}

    def reconstruct(self, frames: torch.Tensor) -> torch.Tensor:
        return frames

    def state_dict(self) -> State:
        return {"steps": self.steps}

    def load_state_dict(self, state: State) -> None:
        steps = state["steps"]
        assert isinstance(steps, torch.Tensor)
        self.steps = steps


def fit_drifting(run: Path, steps: int, batch: int = 2) -> None:
    settings = LoopSettings(batch=batch, steps=steps, checkpoint_minutes=0)
    identity = IDENTITY | {"batch": batch}
    fit(Drifting(), MadeUpFrames(), run, settings, Group(), identity)


def test_weights_that_diverged_are_not_saved(tmp_path: Path) -> None:
    class Exploding(Drifting):
        def step(self, frames: torch.Tensor) -> Mapping[str, torch.Tensor]:
            losses = super().step(frames)
            self.steps = self.steps if self.steps < 3 else self.steps * float("inf")
            return losses

    settings = LoopSettings(batch=2, steps=9, checkpoint_minutes=0)
    with pytest.raises(DivergenceError, match="diverged at step 3"):
        fit(Exploding(), MadeUpFrames(), tmp_path, settings, Group(), IDENTITY)
    assert checkpoint.step_of(checkpoint.paths(tmp_path)[-1]) == 2


def test_divergence_is_reported_and_not_saved(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"diverged at step 5 \(loss nan\).* of step 4"):
        fit_drifting(tmp_path, 9)
    assert checkpoint.step_of(checkpoint.paths(tmp_path)[-1]) == 4


def test_a_run_of_other_settings_is_refused(tmp_path: Path) -> None:
    fit_drifting(tmp_path, 2)
    with pytest.raises(CheckpointError, match=r"'batch': 2.*not with.*'batch': 3"):
        fit_drifting(tmp_path, 3, batch=3)


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    fit_drifting(tmp_path, 3)
    last = checkpoint.paths(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:100])
    fit_drifting(tmp_path, 4)
    assert [checkpoint.step_of(path) for path in checkpoint.paths(tmp_path)] == [3, 4]


def test_when_no_checkpoint_can_be_read_it_says_so(tmp_path: Path) -> None:
    fit_drifting(tmp_path, 1)
    for path in checkpoint.paths(tmp_path):
        path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"step_00000001.pt cannot be read"):
        fit_drifting(tmp_path, 2)


def test_training_needs_an_end(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="--steps or --minutes"):
        fit(Drifting(), MadeUpFrames(), tmp_path, LoopSettings(batch=2), Group(), IDENTITY)


def test_every_frame_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    order = Order(np.arange(100, 111), seed=3)
    first, second = order.at(0, 11), order.at(11, 11)
    assert sorted(first) == sorted(second) == list(range(100, 111))
    assert list(first) != list(second)
    assert list(Order(np.arange(100, 111), seed=4).at(0, 11)) != list(first)


def test_any_position_can_be_resumed_from() -> None:
    whole = Order(np.arange(7), seed=0).at(0, 40)
    for position in range(30):
        np.testing.assert_array_equal(
            Order(np.arange(7), seed=0).at(position, 10), whole[position : position + 10]
        )


def test_processes_see_disjoint_parts_that_make_up_the_whole() -> None:
    seen: list[list[int]] = []
    for rank in range(3):
        data = MadeUpFrames(12)
        with batches(data, Order(data.fitted, 1), seen=0, batch=2, rank=rank, world=3) as frames:
            next(frames), next(frames)
        seen.append(data.asked[:4])
    assert sorted(np.concatenate(seen).tolist()) == list(range(12))


def test_a_data_set_without_frames_is_refused() -> None:
    with pytest.raises(DatasetError, match="no frame to train on"):
        Order(np.arange(0), seed=0)


def test_an_error_while_reading_frames_reaches_the_training() -> None:
    class Broken(MadeUpFrames):
        def frames(self, indices: np.ndarray) -> np.ndarray:
            raise OSError("the disk is gone")

    data = Broken()
    with (
        pytest.raises(OSError, match="the disk is gone"),
        batches(data, Order(data.fitted, 0), seen=0, batch=2, rank=0, world=1) as frames,
    ):
        next(frames)
