"""Supervises a film process: enforces its limits by killing it, and reports why it ended."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from film.errors import FilmCrashedError, FilmLimitError, FilmProcessLostError
from film.limits import FilmLimits
from film.process.sandbox import Rights
from film.process.spawner import Child, Ended, Spawner, SpawnError

_LOOK_SECONDS = 0.2
_END_SECONDS = 5.0
"""How long a process may take to end once it has closed a socket; then it is killed."""
_MEMORY_MARGIN = 1.25
"""Ratio of memory that may be allocated to memory that may be used: some stays untouched."""
_NEARLY_FULL = 0.8
"""Share of the memory allowed; a process that dies above it is taken to have died of that."""
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class SupervisedChild:
    """One film's process and its limits. `fail` and `end` are safe at any time."""

    def __init__(self, child: Child, limits: FilmLimits) -> None:
        self._child = child
        self._limits = limits
        self._fault: Exception | None = None
        self._memory = 0
        self._cpu = 0.0
        self._cpu_changed = time.monotonic()
        self.film_seconds = 0.0
        """How far the film was read, for limits and crash messages."""
        self.owes_answer = 0
        """Requests not answered yet."""
        self.waits_for_bytes: Callable[[], bool] = lambda: False
        """Whether it is blocked waiting for bytes."""
        self.output_bytes = 0
        self._watching = asyncio.ensure_future(self._watch())

    @classmethod
    async def start(
        cls, spawner: Spawner, main: str, descriptors: Sequence[int], limits: FilmLimits
    ) -> Self:
        """Start a process; raises FilmProcessLostError if none can be."""
        rights = Rights(
            memory_bytes=int(limits.memory_bytes * _MEMORY_MARGIN), cpu_seconds=limits.cpu_seconds
        )
        try:
            return cls(await spawner.spawn(main, descriptors, rights), limits)
        except SpawnError:
            raise FilmProcessLostError("no process can be started for the film") from None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    def fail(self, error: Exception) -> None:
        """Kill the process, for a reason that `why_ended` returns; the first reason counts."""
        if self._fault is None:
            self._fault = error
        self._child.kill()

    async def end(self) -> None:
        """Kill the process and wait until it has ended."""
        self._watching.cancel()
        with suppress(asyncio.CancelledError):
            await self._watching
        await self._child.end()

    async def why_ended(self) -> Exception:
        """Wait for the process to end, and return the error that explains it."""
        ended = await self._child.gone(_END_SECONDS)
        return self._fault or self._explain(ended)

    def count_output(self, size: int) -> None:
        """Count bytes of output; raises FilmLimitError."""
        self.output_bytes += size
        if self.output_bytes > self._limits.output_bytes:
            error = FilmLimitError(
                f"what is made of the film takes more than {self._limits.output_bytes} bytes",
                "output_bytes",
            )
            self.fail(error)
            raise error

    def _explain(self, ended: Ended) -> Exception:
        if ended.status is None:
            return FilmProcessLostError("the film's process was ended")
        if ended.status == -signal.SIGXCPU:
            return self._over_cpu()
        if max(self._memory, ended.memory_bytes) > _NEARLY_FULL * self._limits.memory_bytes:
            return self.over_memory()
        if ended.status == -signal.SIGKILL:
            return FilmProcessLostError("the film's process was killed")
        return FilmCrashedError(
            f"the film's codec crashed at about {self.film_seconds:.1f} s of the film"
        )

    async def _watch(self) -> None:
        while not self._child.ended.done():
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                self._look()
            except OSError:
                return  # It has ended.
            if (error := self._excess()) is not None:
                self.fail(error)
                return

    def _look(self) -> None:
        process = Path(f"/proc/{self._child.pid}")
        self._memory = int(process.joinpath("statm").read_bytes().split()[1]) * _PAGE
        # The name may contain spaces; it ends at the last parenthesis.
        fields = process.joinpath("stat").read_bytes().rpartition(b")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) * _TICK
        if cpu > self._cpu or not self.owes_answer or self.waits_for_bytes():
            self._cpu_changed = time.monotonic()
        self._cpu = cpu

    def _excess(self) -> Exception | None:
        limits = self._limits
        if self._memory > limits.memory_bytes:
            return self.over_memory()
        if self._cpu > limits.cpu_seconds:
            return self._over_cpu()
        rate = limits.cpu_seconds_per_second
        if self._cpu > limits.cpu_seconds_at_start + rate * self.film_seconds:
            return FilmLimitError(
                f"the film takes more than {rate:g} processor seconds for each of its seconds: "
                f"{self._cpu:.0f} for the first {self.film_seconds:.1f}",
                "cpu_seconds_per_second",
            )
        if time.monotonic() - self._cpu_changed > limits.stall_seconds:
            return FilmCrashedError(
                f"the film's codec stopped at about {self.film_seconds:.1f} s of the film"
            )
        return None

    def _over_cpu(self) -> FilmLimitError:
        return FilmLimitError(
            f"the film takes more than {self._limits.cpu_seconds} processor seconds", "cpu_seconds"
        )

    def over_memory(self) -> FilmLimitError:
        """Return the error of a film that takes too much memory."""
        return FilmLimitError(
            f"the film takes more than {self._limits.memory_bytes} bytes of memory",
            "memory_bytes",
        )
