"""The training loop of every recipe that trains by gradient steps.

It feeds batches in a reproducible order, shows progress and a live preview, writes TensorBoard
events and sample grids, saves checkpoints, and resumes from the last one when it is started again
with the same run.

A step depends only on the seed, the step's number and the weights: the order of frames is a
function of the position (`trainer.sampler`), and each step's random numbers are seeded by the run's
seed, the step and the rank. So no generator state is saved, and on a CPU with the same threads and
processes a run that was killed and resumed ends with the same bits as one that was not. On a GPU it
sees the same frames and noise, but kernels may sum in another order: expect the metrics of
`evaluate` within 0.3 dB PSNR and 0.01 SSIM. A run limited by `minutes` has a reproducible data
order, but not a reproducible length.
"""

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from trainer import checkpoint
from trainer.checkpoint import CheckpointError, State
from trainer.distributed import Group
from trainer.errors import TrainerError
from trainer.journal import Intervals, Journal
from trainer.progress import TrainingProgress
from trainer.sampler import Frames, Order, batches

Precision = Literal["fp32", "bf16"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Learner(Protocol):
    """A recipe's part of the loop: one step, and the state that a step changes."""

    def step(self, frames: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Train on uint8 frames [N, 144, 256, 3] on the device; return losses by name."""

    def reconstruct(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the uint8 frames that a model published now would; must not change any state."""

    def state_dict(self) -> State:
        """Return weights and optimiser states."""

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How long to train and how often to write."""

    batch: int
    """Frames a step, in each process."""
    steps: int | None = None
    """Train up to this step."""
    minutes: float | None = None
    """Train for this long, restarts included; the step in progress is finished."""
    seed: int = 0
    checkpoint_minutes: float = 5.0
    sample_steps: int = 500
    """Steps between two sample grids; one more is drawn at the end."""
    log_steps: int = 10
    """Steps between two rows of TensorBoard scalars."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended."""

    step: int
    """Steps since the training began."""
    seen: int
    """Frames seen by all processes together."""
    seconds: float
    """Time spent on steps, restarts included."""
    losses: dict[str, float]
    """Of the last step."""
    already_done: bool
    """Whether the run had reached its limit before, so that no step was taken."""
    signal: int | None
    """The signal that stopped it before its limit, or None."""


class DivergenceError(TrainerError):
    """A loss is no longer a finite number."""


def fit(
    learner: Learner,
    data: Frames,
    run: Path,
    settings: LoopSettings,
    group: Group,
    identity: Mapping[str, str | int | float],
) -> Outcome:
    """Train until a limit or a signal, resuming from the run's last checkpoint if there is one.

    SIGTERM and SIGINT stop it after the step in progress, with a checkpoint.

    Args:
        learner: what is trained; its initial weights must be the same in every process.
        data: the frames.
        run: directory for checkpoints, events and samples; shared by all processes.
        settings: limits and intervals.
        group: the processes that train together.
        identity: what a checkpoint must match to be resumed from: recipe, data, sizes.

    Raises:
        CheckpointError: the run's checkpoint is unreadable or belongs to another training.
        DivergenceError: a loss became NaN or infinite; no checkpoint was saved since.
        DatasetError: there is no frame to train on.
    """
    if settings.steps is None and settings.minutes is None:
        raise TrainerError("training needs a limit: --steps or --minutes")
    run.mkdir(parents=True, exist_ok=True)
    if group.is_leader:
        checkpoint.remove_leftovers(run)
    resumed = bool(checkpoint.paths(run))
    step, seen, spent, losses = _resume(learner, run, group, identity)
    order = Order(data.fitted, settings.seed)
    limit = settings.minutes * 60 if settings.minutes is not None else None
    saved_step = first_step = step
    name = str(identity.get("recipe", "train"))

    def save() -> None:
        if group.is_leader:
            state: State = {"step": step, "seen": seen, "seconds": spent}
            state |= {"identity": dict(identity), "losses": losses}
            state["learner"] = learner.state_dict()
            if not _finite(state):  # a finite loss can come before an infinite step
                raise _divergence(step, saved_step, losses)
            checkpoint.save(run, step, state)

    with (
        TrainingProgress(
            name, steps=settings.steps, seconds=limit, shown=group.is_leader
        ) as progress,
        Journal(
            name,
            learner.reconstruct,
            data,
            run,
            step,
            Intervals(settings.log_steps, settings.sample_steps),
            group,
            progress.show_preview,
        ) as journal,
        _signals() as received,
        batches(
            data, order, seen=seen, batch=settings.batch, rank=group.rank, world=group.world
        ) as frames,
    ):
        if resumed:
            progress.say(f"Resuming from the checkpoint of step {step}.")
        journal.begin(step, spent)
        saved_at = time.monotonic()
        while True:
            done = settings.steps is not None and step >= settings.steps
            # The leader's clock decides: the others also wait while it draws.
            late = limit is not None and spent >= limit and group.is_leader
            # A signal to any process stops all of them at the same step.
            any_late, caught = group.max_over_processes([late, max(received, default=0)])
            if done or any_late or caught:
                break
            started = time.monotonic()
            torch.manual_seed(_step_seed(settings.seed, step, group.rank))
            batch = _to_device(next(frames), group.device)
            results = learner.step(batch)
            losses = {name: float(value) for name, value in results.items()}
            _require_finite(losses, step + 1, saved_step, group)
            took = time.monotonic() - started
            spent += took
            step += 1
            together = settings.batch * group.world
            seen += together
            progress.update(step, spent, took, together, losses)
            journal.write(step, spent, losses, together / took)
            if time.monotonic() - saved_at >= settings.checkpoint_minutes * 60:
                save()
                saved_step, saved_at = step, time.monotonic()
        if step != saved_step or not checkpoint.paths(run):
            save()
        if not caught:
            journal.end(step, spent)
        reason = f"signal {caught}" if caught else "its limit"
        progress.say(f"Ended by {reason} at step {step}, after {spent / 60:.1f} minutes.")
    return Outcome(step, seen, spent, losses, step == first_step, caught or None)


def _resume(
    learner: Learner, run: Path, group: Group, identity: Mapping[str, str | int | float]
) -> tuple[int, int, float, dict[str, float]]:
    """Restore the newest checkpoint; return its step, frames seen, seconds and losses.

    If the newest is damaged, the one before it is used.
    """
    state: State | None = None
    for path in reversed(checkpoint.paths(run)):
        try:
            state = checkpoint.load(path)
            break
        except CheckpointError:
            if path == checkpoint.paths(run)[0]:
                raise
    step = _number(state, "step") if state else 0
    if group.max_over_processes([step]) != [step] or group.max_over_processes([-step]) != [-step]:
        raise CheckpointError(
            "the processes found different checkpoints: put the run directory on storage that all "
            "of them share"
        )
    if state is None:
        return 0, 0, 0.0, {}
    found = state["identity"]
    if found != dict(identity):
        raise CheckpointError(
            f"{run} was trained with {found}, not with {dict(identity)}: choose another --run, or "
            "the same data and settings"
        )
    saved, seconds, losses = state["learner"], state["seconds"], state["losses"]
    if not (isinstance(saved, dict) and isinstance(seconds, float) and isinstance(losses, dict)):
        raise CheckpointError(f"the checkpoint of step {step} lacks weights, time or losses")
    learner.load_state_dict(saved)
    return step, _number(state, "seen"), seconds, losses


def _number(state: State, key: str) -> int:
    value = state.get(key)
    if not isinstance(value, int):
        raise CheckpointError(f"the checkpoint lacks {key!r}")
    return value


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def _to_device(frames: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    batch = torch.from_numpy(frames)
    if device.type == "cuda":
        return batch.pin_memory().to(device, non_blocking=True)
    return batch


def _require_finite(losses: Mapping[str, float], step: int, saved_step: int, group: Group) -> None:
    """Stop every process if any of them has a loss that is not finite."""
    lost = not all(math.isfinite(value) for value in losses.values())
    if group.max_over_processes([lost]) == [0]:
        return
    raise _divergence(step, saved_step, losses)


def _divergence(step: int, saved_step: int, losses: Mapping[str, float]) -> DivergenceError:
    shown = ", ".join(f"{name} {value}" for name, value in losses.items())
    return DivergenceError(
        f"training diverged at step {step} ({shown}). The last checkpoint, of step {saved_step}, "
        "is intact: resume from it with --precision fp32, or start again with another --seed"
    )


def _finite(state: object) -> bool:
    """Return whether every number in nested dicts and lists of tensors is finite."""
    if isinstance(state, torch.Tensor):
        return bool(torch.isfinite(state).all())
    if isinstance(state, dict):
        return all(_finite(value) for value in state.values())
    return not isinstance(state, list) or all(_finite(value) for value in state)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT inside a `with` (in the main thread only)."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each in _SIGNALS:
        signal.signal(each, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
