"""The local Triton: started from the wheel, restarted when it exits, stopped with the service."""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
from tritonclient.utils import InferenceServerException

from service import metrics
from service.inference.connection import connect
from service.inference.local.wheel import (
    LocalTritonError,
    address,
    assemble_backends,
    command,
    environment,
    find_wheel,
)
from service.inference.local.workspace import Workspace

log = structlog.get_logger(__name__)

_START_SECONDS = 60.0
_FIRST_BACKOFF_SECONDS = 0.5
_LAST_BACKOFF_SECONDS = 30.0
_EXIT_LOOK_SECONDS = 0.1
_STEADY_SECONDS = 60.0
"""Uptime after which the restart backoff is reset."""


class LocalTriton:
    """A child process that is restarted whenever it exits. For the main thread's event loop."""

    def __init__(self, repositories: Sequence[Path]) -> None:
        """Find the wheel and create a workspace, which `stop` removes.

        Raises LocalTritonError if the wheel is missing.
        """
        self._wheel = find_wheel()
        self._repositories = repositories
        self._workspace = Workspace()
        self._process: asyncio.subprocess.Process | None = None
        self._last_lines: deque[str] = deque(maxlen=20)

    @property
    def address(self) -> str:
        """The gRPC address, the same for the service's whole life: a Unix socket."""
        return address(self._workspace.folder)

    async def start(self) -> None:
        """Start Triton and wait until it answers; raises LocalTritonError if it does not."""
        for repository in self._repositories:
            if not repository.exists():
                log.warning("model repository did not exist, created", path=str(repository))
                repository.mkdir(parents=True)
        assemble_backends(self._wheel, self._workspace.folder)
        if not await self._start_once():
            raise LocalTritonError(
                "Triton does not start; its last output:\n" + "\n".join(self._last_lines)
            )

    async def keep_alive(self, *, on_end: Callable[[], None], on_start: Callable[[], None]) -> None:
        """Restart Triton whenever it exits; returns only when cancelled."""
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            started = time.monotonic()
            code = await self._exited()
            on_end()
            self._end_group()
            metrics.TRITON_RESTARTS.inc()
            if time.monotonic() - started > _STEADY_SECONDS:
                backoff = _FIRST_BACKOFF_SECONDS
            log.error(
                "triton ended, starting it again",
                exit_code=code,
                in_seconds=backoff,
                last_lines=list(self._last_lines)[-5:],
            )
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _LAST_BACKOFF_SECONDS)
            self._workspace.remove_shared_memory()
            if await self._start_once():
                on_start()

    def restart(self) -> None:
        """Kill this Triton, which lost a stub process; `keep_alive` starts a new one."""
        if self._process is not None and self._process.returncode is None:
            self._end_group()

    async def stop(self) -> None:
        """Kill Triton and its stubs (they have no state to save) and remove the workspace."""
        if self._process is not None and self._process.returncode is None:
            self._end_group()
            await self._process.wait()
        self._workspace.remove()

    async def _start_once(self) -> bool:
        self._last_lines.clear()
        process = await asyncio.create_subprocess_exec(
            *command(
                self._wheel,
                self._workspace.folder,
                self._repositories,
                self._workspace.shared_memory_prefix,
            ),
            env=environment(self._wheel),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._process = process
        self._reader = asyncio.create_task(self._read_lines(process))
        if await self._wait_until_live(process):
            log.info("triton started", address=self.address, pid=process.pid)
            return True
        self._end_group()
        await process.wait()
        return False

    async def _wait_until_live(self, process: asyncio.subprocess.Process) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        triton = connect(self.address)
        try:
            while process.returncode is None and time.monotonic() < deadline:
                with suppress(InferenceServerException):
                    if await triton.is_server_live(client_timeout=1.0):
                        return True
                await asyncio.sleep(0.05)
            return False
        finally:
            await triton.close()

    async def _read_lines(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            if line:
                self._last_lines.append(line)
                log.debug("triton", line=line)

    def _end_group(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _exited(self) -> int | None:
        """Wait until the running Triton, if any, exits; return its exit code.

        `process.wait()` also waits for the end of the output, which a stub that was busy when
        Triton died keeps open forever.
        """
        process = self._process
        # asyncio has no event for the exit alone.
        while process is not None and process.returncode is None:  # noqa: ASYNC110
            await asyncio.sleep(_EXIT_LOOK_SECONDS)
        return process.returncode if process is not None else None
