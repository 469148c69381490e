"""A reconstruction's progress: a bar on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from refilm._values import Progress, Reconstruction
from refilm.cli._show import json_line

if TYPE_CHECKING:
    from rich.progress import Task

_SECONDS_BETWEEN_LINES = 5.0


class Watched(Protocol):
    """A film that counts how much of it was read."""

    position: int

    def fileno(self) -> int:
        """Returns the file's number."""


class Report(AbstractContextManager["Report"]):
    """Plain lines on the standard error, one every few seconds."""

    def __init__(self) -> None:
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the report."""

    def progress(self, progress: Progress) -> None:
        """Reports the progress."""
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + _SECONDS_BETWEEN_LINES
            print(describe(progress), file=sys.stderr, flush=True)

    def done(self, result: Reconstruction, output: str, elapsed: float) -> None:
        """Reports the result."""
        output_facts = result.output
        sounds = ", ".join(
            f"{track.codec} {action}"
            for track, action in zip(
                result.film.sound_tracks, output_facts.sound_track_actions, strict=False
            )
        )
        print(
            f"{'standard output' if output == '-' else output}: {result.frames} frames, "
            f"{clock(result.duration)}, {output_facts.width} x {output_facts.height}, "
            f"{size(result.bytes_sent)}; sound: {sounds or 'none'}; "
            f"{result.model.name} v{result.model.version}; took {clock(elapsed)} "
            f"({result.frames / max(elapsed, 1e-9):.0f} frames/s)",
            file=sys.stderr,
        )
        if result.film_name:
            print(f"in the library: {result.rendition or result.film_name}", file=sys.stderr)
        for warning in result.warnings:
            print(f"warning: {warning}", file=sys.stderr)


class JsonReport(Report):
    """One JSON object a line on the standard output: progress, then the reconstruction."""

    def progress(self, progress: Progress) -> None:
        """Reports the progress."""
        self._print("progress", dataclasses.asdict(progress))

    def done(self, result: Reconstruction, output: str, elapsed: float) -> None:
        """Reports the result."""
        facts = dataclasses.asdict(result)
        # "output" is the file that was written, as everywhere.
        facts["output_facts"], facts["output"] = facts["output"], output
        self._print("reconstruction", {**facts, "elapsed": elapsed})

    def _print(self, event: str, facts: dict[str, object]) -> None:
        json_line({"event": event, **facts})


class BarReport(Report):
    """A bar on a terminal."""

    def __init__(self, film: Watched | None) -> None:
        super().__init__()
        # rich belongs to the extra [cli]: it is not needed to import this module.
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, SpinnerColumn
        from rich.progress import Progress as Bar
        from rich.text import Text

        total = None if film is None else os.fstat(film.fileno()).st_size or None
        state = self

        class Words(ProgressColumn):
            def render(self, task: Task) -> Text:
                words = "waiting for the film's facts" if state.last is None else brief(state.last)
                if film is not None:
                    words += f", sent {_of(film.position, total)}"
                return Text(words, no_wrap=True, overflow="ellipsis")

        self.last: Progress | None = None
        self._bar = Bar(
            SpinnerColumn(),
            BarColumn(bar_width=14),
            Words(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def progress(self, progress: Progress) -> None:
        """Moves the bar; it pulses if the film does not say how long it is."""
        self.last = progress
        known = progress.fraction is not None
        self._bar.update(self._task, total=1.0 if known else None, completed=progress.fraction or 0)

    def done(self, result: Reconstruction, output: str, elapsed: float) -> None:
        """Reports the result."""
        self._bar.stop()
        super().done(result, output, elapsed)


def report_for(options: argparse.Namespace, film: Watched | None) -> Report:
    """Returns the report that suits the output."""
    if options.json:
        return JsonReport()
    if sys.stderr.isatty():
        try:
            return BarReport(film)
        except ImportError:
            pass
    return Report()


def brief(progress: Progress) -> str:
    """Returns what fits beside a bar."""
    total = f"/~{progress.frames_total}" if progress.frames_total else ""
    rate = progress.frames_per_second
    left = "? left" if progress.eta is None else f"{clock(progress.eta)} left"
    return (
        f"{progress.frames_written}{total} frames{'' if total else ' (total unknown)'}, "
        f"{'?' if rate is None else f'{rate:.0f}'}/s, {left}"
    )


def describe(progress: Progress) -> str:
    """Returns a line on the progress, which says what is unknown."""
    parts = [
        f"{progress.frames_written} of about {progress.frames_total} frames"
        if progress.frames_total
        else f"{progress.frames_written} frames (how many there are is not known)",
        f"at {clock(progress.position)}",
    ]
    if progress.bytes_total or progress.bytes_sent:
        parts.append(f"sent {_of(progress.bytes_sent, progress.bytes_total)}")
    if progress.frames_reused:
        parts.append(f"{progress.frames_reused} frames were there already")
    if progress.fraction is not None:
        parts.insert(0, f"{progress.fraction:4.0%}")
    if progress.frames_per_second is not None:
        parts.append(f"{progress.frames_per_second:.0f} frames/s")
    parts.append("time left unknown" if progress.eta is None else f"{clock(progress.eta)} left")
    return ", ".join(parts)


def size(count: float) -> str:
    """Returns a number of bytes in readable form."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def clock(seconds: float) -> str:
    """Returns a duration in readable form: 1:02:03 or 2:03."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _of(count: int, total: int | None) -> str:
    return f"{size(count)} of {size(total)}" if total else size(count)
