"""Progress of a count: a bar on a terminal, a line every few seconds elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

_LINE_SECONDS = 10.0


class Counter:
    """Counts frames towards a total that may be unknown or an estimate; a context manager."""

    def __init__(self, name: str, total: int | None) -> None:
        """Take the task's name and its number of frames."""
        self._name, self._total, self._done = name, total, 0
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=total, rate="", note="")
        self._note = ""
        self._began = self._last_line = time.monotonic()

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
        if error is None and not self._console.is_terminal:
            seconds = time.monotonic() - self._began
            self._print(f"{self._name}: {self._done} frames in {seconds:.0f} s")

    def advance(self, count: int) -> None:
        """Add frames just processed."""
        self.show(self._done + count, self._total)

    def show_preview(self, psnr: float) -> None:
        """Show, from now on, a preview's PSNR in dB."""
        self._note = f"preview {psnr:.1f} dB"
        self._bar.update(self._task, note=self._note)

    def show(self, done: int, total: int | None) -> None:
        """Show frames done and their total."""
        self._done, self._total = done, max(done, total) if total else None
        now = time.monotonic()
        rate = f"{done / max(now - self._began, 1e-3):.0f} frames/s"
        self._bar.update(self._task, completed=done, total=self._total, rate=rate)
        if not self._console.is_terminal and now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            of = f" of {self._total}" if self._total else ""
            note = f", {self._note}" if self._note else ""
            self._print(f"{self._name}: {done}{of} frames, {rate}{note}")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
