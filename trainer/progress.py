"""Progress of a training: a bar on a terminal, a line every half minute elsewhere."""

import math
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

LINE_SECONDS = 30.0
"""How often a line is printed without a terminal."""

_MEMORY = 0.95
"""Smoothing of the rate: the weight of the rate of the step before."""


class TrainingProgress:
    """Shows losses, rate and time left; use as a context manager.

    Args:
        name: of the recipe.
        steps: the step at which training ends, if limited.
        seconds: the time after which training ends, if limited.
        shown: whether to show anything (only the leader process does).
    """

    def __init__(
        self, name: str, *, steps: int | None, seconds: float | None, shown: bool = True
    ) -> None:
        self._name, self._steps, self._seconds = name, steps, seconds
        console = Console(stderr=True, quiet=not shown)
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._bar.add_task(name, total=1.0, text="")
        self._lines = shown and not console.is_terminal
        self._last_line = -math.inf
        self._step_seconds = 0.0
        self._preview: float | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, message: str) -> None:
        """Show a message above the bar."""
        self._bar.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def show_preview(self, psnr: float) -> None:
        """Show, from the next step on, the preview's PSNR in dB."""
        self._preview = psnr

    def update(
        self, step: int, seconds: float, took: float, frames: int, losses: dict[str, float]
    ) -> None:
        """Show the state after a step.

        Args:
            step: steps since the training began.
            seconds: spent on steps, restarts included.
            took: seconds that this step took.
            frames: frames of all processes in this step.
            losses: by name, in the order to show them.
        """
        known = self._step_seconds or took
        self._step_seconds = _MEMORY * known + (1 - _MEMORY) * took
        text = self._describe(step, seconds, frames, losses)
        self._bar.update(self._task, completed=self._done(step, seconds), text=text)
        now = time.monotonic()
        if self._lines and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            self.say(f"{self._name}: {self._done(step, seconds):4.0%}  {text}")

    def _done(self, step: int, seconds: float) -> float:
        parts = [0.0]
        if self._steps:
            parts.append(step / self._steps)
        if self._seconds:
            parts.append(seconds / self._seconds)
        return min(max(parts), 1.0)

    def _describe(self, step: int, seconds: float, frames: int, losses: dict[str, float]) -> str:
        left = [math.inf]
        if self._steps is not None:
            left.append((self._steps - step) * self._step_seconds)
        if self._seconds is not None:
            left.append(self._seconds - seconds)
        # Most important first: a narrow terminal cuts off the rest.
        parts = [f"step {step}"]
        if self._preview is not None:
            parts.append(f"preview {self._preview:.1f} dB")
        parts.append(f"{_clock(min(left))} left")
        parts.append(f"{frames / max(self._step_seconds, 1e-9):.1f} frames/s")
        parts += [f"{name} {value:.4f}" for name, value in losses.items()]
        return "  ".join(parts)


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
