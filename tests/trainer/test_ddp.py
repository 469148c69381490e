"""Several processes started by torchrun, talking through gloo."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.trainer.loop_process import IDENTITY, MadeUpFrames
from tests.trainer.test_loop import PROCESS, ROOT, assert_equal, final
from trainer import checkpoint
from trainer.distributed import Group
from trainer.loop import LoopSettings, fit
from trainer.recipes.broad2016.recipe import Broad2016, Broad2016Config


def torchrun(run: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(PROCESS), str(run), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr


def test_two_processes_train_one_model_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    torchrun(whole, "--steps", "4")
    torchrun(parts, "--steps", "2")
    torchrun(parts, "--steps", "4")

    # One model: the same bits in both processes, interrupted or not.
    ours, theirs = (torch.load(whole / f"final_{rank}.pt") for rank in (0, 1))
    assert_equal(_learned(ours), _learned(theirs))
    assert_equal(final(parts), ours)
    # Disjoint data: together, the two saw the first frames of the order once each.
    seen = [np.load(whole / f"asked_{rank}.npy")[:4] for rank in (0, 1)]
    assert len(set(np.concatenate(seen).tolist())) == 8
    # One writer.
    assert [checkpoint.step_of(path) for path in checkpoint.paths(whole)] == [3, 4]
    assert len(list((whole / "events").iterdir())) == 1


def test_the_gradients_of_the_processes_are_averaged(tmp_path: Path) -> None:
    run = tmp_path / "run"
    torchrun(run, "--steps", "1")
    assert not np.array_equal(np.load(run / "asked_0.npy"), np.load(run / "asked_1.npy"))
    # Adam's first moment after one step is half the gradient it was given, so it tells.
    alone = [_moments_alone(rank, tmp_path / f"alone_{rank}") for rank in (0, 1)]
    together = _moments(torch.load(run / "final_0.pt"))
    assert together
    for ours, first, second in zip(together, *alone, strict=True):
        allowed = 1e-3 * float(ours.abs().max())
        torch.testing.assert_close(ours, (first + second) / 2, rtol=0, atol=allowed)
        assert not torch.allclose(first, second, rtol=0, atol=10 * allowed)


def _moments_alone(rank: int, run: Path) -> list[torch.Tensor]:
    """Train the first step of a process of two, without the other."""

    class Alone(Group):
        def average(self, tensors: object) -> None:
            pass

        def max_over_processes(self, values: object) -> list[int]:
            return list(values)  # type: ignore[call-overload]

    data = MadeUpFrames()
    torch.manual_seed(0)
    group = Alone(rank, 2)
    reference = torch.from_numpy(data.frames(data.fitted))
    learner = Broad2016(Broad2016Config(channels=(2, 3, 4, 5)), reference, group)
    fit(learner, data, run, LoopSettings(batch=2, steps=1), group, IDENTITY)
    return _moments(learner.state_dict())


def _moments(state: object) -> list[torch.Tensor]:
    assert isinstance(state, dict)
    optimisers = [part for name, part in sorted(state.items()) if name.endswith("optimiser")]
    moments = [each["exp_avg"] for part in optimisers for each in part["state"].values()]
    # Without biases: those that batch normalisation takes away again have but rounding errors.
    return [moment for moment in moments if moment.ndim > 1]


def _learned(state: object) -> dict[str, Any]:
    """Leave out what only the process that draws sample grids measures for them."""
    assert isinstance(state, dict)
    measured = ("running_mean", "running_var", "num_batches_tracked")
    return {
        name: {key: value for key, value in part.items() if not str(key).endswith(measured)}
        for name, part in state.items()
    }
