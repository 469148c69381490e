"""A transfer's progress: a bar on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType

from refilm._film_values import TransferProgress
from refilm.cli._report import clock, size
from refilm.cli._show import json_line

_SECONDS_BETWEEN_LINES = 5.0


class TransferReport(AbstractContextManager["TransferReport"]):
    """Plain lines on the standard error, one every few seconds."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the report."""

    def progress(self, progress: TransferProgress) -> None:
        """Reports the progress."""
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + _SECONDS_BETWEEN_LINES
            print(f"{self.label}: {describe(progress)}", file=sys.stderr, flush=True)


class JsonTransferReport(TransferReport):
    """One JSON object a line on the standard output."""

    def progress(self, progress: TransferProgress) -> None:
        """Reports the progress."""
        more = {"fraction": progress.fraction, "eta": progress.eta}
        json_line({"event": "progress", "file": self.label} | dataclasses.asdict(progress) | more)


class BarTransferReport(TransferReport):
    """A bar on a terminal."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        # rich belongs to the extra [cli]: it is not needed to import this module.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=14),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(label, total=None, words="connecting")

    def __enter__(self) -> TransferReport:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def progress(self, progress: TransferProgress) -> None:
        """Moves the bar."""
        self._bar.update(
            self._task,
            total=progress.bytes_total,
            completed=progress.bytes_done,
            words=describe(progress),
        )


def transfer_report(options: argparse.Namespace, label: str) -> TransferReport:
    """Returns the report that suits the output."""
    if options.json:
        return JsonTransferReport(label)
    if sys.stderr.isatty():
        try:
            return BarTransferReport(label)
        except ImportError:
            pass
    return TransferReport(label)


def describe(progress: TransferProgress) -> str:
    """Returns a line on a transfer's progress; what is unknown is omitted."""
    total = progress.bytes_total
    parts = [
        f"{size(progress.bytes_done)} of {size(total)}" if total else size(progress.bytes_done)
    ]
    if progress.bytes_per_second:
        parts.append(f"{size(progress.bytes_per_second)}/s")
    if progress.eta is not None:
        parts.append(f"{clock(progress.eta)} left")
    return ", ".join(parts)
