"""Atomic checkpoints: temporary file, fsync, rename.

A run keeps its last two, `checkpoints/step_00001234.pt`. A process killed at any moment leaves at
worst a temporary file, which the next start removes.
"""

import os
import re
from pathlib import Path

import torch

from trainer.errors import TrainerError

KEEP = 2
"""How many checkpoints a run keeps: the last, and the one before it in case the last is damaged."""

State = dict[str, object]
"""What a checkpoint holds: tensors, numbers, strings, and lists and dicts of them."""

_NAME = re.compile(r"step_(\d{8,})\.pt")


class CheckpointError(TrainerError):
    """A checkpoint is missing, cannot be read, or belongs to a different training."""


def save(run: Path, step: int, state: State) -> Path:
    """Write the checkpoint of a step, then remove all but the last `KEEP`.

    When this returns, the checkpoint survives a kill or a power cut.
    """
    directory = run / "checkpoints"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"step_{step:08d}.pt"
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_directory(directory)
    for old in paths(run)[:-KEEP]:
        old.unlink()
    return path


def paths(run: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first."""
    found = [path for path in (run / "checkpoints").glob("step_*.pt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Return the step after which a checkpoint was written, from its file name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path.name} is not a checkpoint: expected step_<number>.pt")
    return int(match[1])


def load(path: Path) -> State:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: the file is damaged or not a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types for a damaged file
        raise CheckpointError(f"checkpoint {path.name} cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path.name} holds no training state")
    return state


def remove_leftovers(run: Path) -> None:
    """Remove temporary files of a killed process. Only the process that writes may call this."""
    for temporary in (run / "checkpoints").glob("step_*.tmp"):
        temporary.unlink()


def _sync_directory(directory: Path) -> None:
    """Make the rename durable by syncing the directory entry."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
