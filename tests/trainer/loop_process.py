"""A training process for the tests: a small `broad2016` on made-up frames.

    python loop_process.py RUN STEPS [--minutes M] [--world-out FILE]

Every step is followed by a checkpoint and a line "step N" on stdout.
"""

import argparse
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.distributed import process_group
from trainer.loop import LoopSettings, fit
from trainer.recipes.broad2016.recipe import Broad2016, Broad2016Config

IDENTITY: dict[str, str | int | float] = {"recipe": "broad2016", "batch": 2}


class MadeUpFrames:
    """Smooth colours that differ from frame to frame; says which frames training asked for."""

    def __init__(self, count: int = 11) -> None:
        self.fitted = np.arange(count, dtype=np.int64)
        self.held_out = np.arange(count, count + 3, dtype=np.int64)
        self.asked: list[int] = []

    def frames(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        if threading.current_thread().name == "frames":  # and not for a sample grid
            self.asked.extend(int(index) for index in indices)
        rows, columns = np.mgrid[0:144, 0:256]
        pictures = [
            np.stack([rows + 20 * i, columns + 40 * i, (rows * columns) // 99 + 7 * i], axis=-1)
            for i in indices
        ]
        return np.stack(pictures).astype(np.uint8)


class Announced(Broad2016):
    """Says on stdout which step it has done."""

    done = 0

    def step(self, frames: torch.Tensor) -> Mapping[str, torch.Tensor]:
        losses = super().step(frames)
        print("did a step", flush=True)
        return losses


def small(data: MadeUpFrames, **changes: Any) -> Broad2016Config:
    return Broad2016Config(channels=(2, 3, 4, 5), **changes)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--checkpoint-minutes", type=float, default=0.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = MadeUpFrames()
    settings = LoopSettings(
        batch=2,
        steps=arguments.steps,
        minutes=arguments.minutes,
        checkpoint_minutes=arguments.checkpoint_minutes,
        sample_steps=3,
        log_steps=1,
    )
    with process_group("cpu") as group:
        torch.manual_seed(0)
        reference = torch.from_numpy(data.frames(data.fitted))
        learner = Announced(small(data), reference, group)
        outcome = fit(learner, data, arguments.run, settings, group, IDENTITY)
        np.save(arguments.run / f"asked_{group.rank}.npy", np.array(data.asked))
        torch.save(learner.state_dict(), arguments.run / f"final_{group.rank}.pt")
        print("ended", outcome.step, outcome.signal, flush=True)


if __name__ == "__main__":
    main()
