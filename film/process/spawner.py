"""Starts confined children from a warm fork server, which is restarted if it dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from film.process.forkserver import MAX_DESCRIPTORS, PACKET_BYTES
from film.process.sandbox import Protection, Rights

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""The whole environment of the server, and so of every child."""
_ATTEMPTS = 3
"""Servers that may die during one request before it fails."""
_START_SECONDS = 60.0


class SpawnError(Exception):
    """No child could be started."""


class _ServerLostError(Exception):
    """The fork server died."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    status: int | None
    """Its exit code, or minus the signal that killed it; None if the fork server died before it
    could report it."""
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    """Its peak memory."""


class Child:
    """A confined process, until it has ended."""

    def __init__(self, pid: int, watched: int) -> None:
        self.pid = pid
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        """How it ended; any number of callers may await it, each through `asyncio.shield`."""
        self._watched = watched

    def kill(self) -> None:
        """Kill it; safe at any time."""
        if not self.ended.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._watched, signal.SIGKILL)

    async def gone(self, seconds: float) -> Ended:
        """Wait until it has ended; kill it after `seconds`."""
        await asyncio.wait({self.ended}, timeout=seconds)
        return await self.end()

    async def end(self) -> Ended:
        """Kill it, and wait until it has ended."""
        self.kill()
        return await asyncio.shield(self.ended)

    def _close(self, ended: Ended) -> None:
        if not self.ended.done():
            self.ended.set_result(ended)
            os.close(self._watched)


class Spawner:
    """Starts children; used on one event loop, on the main thread.

    The main thread, because the server dies with the thread that started it.
    """

    def __init__(
        self,
        mains: Sequence[str],
        *,
        on_lost: Callable[[], None] = lambda: None,
        isolated: bool = True,
    ) -> None:
        """Set up; nothing is started yet.

        Args:
            mains: the modules whose `main` children run.
            on_lost: called when a server died.
            isolated: if False, modules are also imported from the working directory.
        """
        self._mains = tuple(mains)
        self._isolated = isolated
        self._on_lost = on_lost
        self._server: asyncio.Task[_Server] | None = None
        self._closed = False

    async def start(self) -> Protection:
        """Start the server; return what will confine its children.

        Raises:
            SpawnError: it cannot be started.
        """
        return (await self._ready()).protection

    async def close(self) -> None:
        """End the server and all its children; it is not restarted."""
        self._closed = True
        server, self._server = self._server, None
        if server is not None:
            server.cancel()
            with suppress(asyncio.CancelledError, SpawnError, _ServerLostError):
                await (await server).close()

    async def spawn(self, main: str, descriptors: Sequence[int], rights: Rights) -> Child:
        """Start a child that runs a module's `main` with copies of the descriptors.

        Raises:
            SpawnError: no child can be started.
        """
        if len(descriptors) > MAX_DESCRIPTORS:
            raise ValueError(f"at most {MAX_DESCRIPTORS} descriptors")
        for _ in range(_ATTEMPTS):
            server = await self._ready()
            with suppress(_ServerLostError):
                return await server.spawn(main, descriptors, rights)
        raise SpawnError("the fork server died again and again")

    async def _ready(self) -> _Server:
        if self._closed:
            raise SpawnError("the service ends")
        starting = self._server
        if starting is not None and starting.done():
            failed = starting.cancelled() or starting.exception() is not None
            if failed or starting.result().lost.done():
                starting = None
        if starting is None:
            starting = self._server = asyncio.ensure_future(self._start())
        try:
            return await asyncio.shield(starting)
        except (_ServerLostError, OSError, TimeoutError):
            raise SpawnError("the fork server cannot be started") from None

    async def _start(self) -> _Server:
        server = await _Server.start(self._mains, isolated=self._isolated)
        server.lost.add_done_callback(self._lost)
        return server

    def _lost(self, lost: asyncio.Future[None]) -> None:
        if self._server is not None:
            # It was not closed. Restarted at once, so that the next child finds a warm server.
            self._server = asyncio.ensure_future(self._start())
            self._server.add_done_callback(_seen)
            self._on_lost()


class _Server:
    """One fork server process."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self.protection: Protection
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done once the server has ended."""
        self._process = process
        self._control = control
        self._started: asyncio.Future[Protection] = loop.create_future()
        self._requests: dict[int, asyncio.Future[Child]] = {}
        self._children: dict[int, Child] = {}
        self._number = 0
        loop.add_reader(control, self._receive)

    @classmethod
    async def start(cls, mains: Sequence[str], *, isolated: bool) -> _Server:
        """Start a server and wait until it is warm."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *(("-I",) if isolated else ()),
                *("-m", "film.process.forkserver"),
                *(str(os.getpid()), str(theirs.fileno()), *mains),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_ENVIRONMENT,
                # The terminal's Ctrl-C goes only to the service, which drains first.
                process_group=0,
            )
        server = cls(process, ours)
        try:
            async with asyncio.timeout(_START_SECONDS):
                server.protection = await server._started
        except BaseException:
            await server.close()
            raise
        return server

    async def spawn(self, main: str, descriptors: Sequence[int], rights: Rights) -> Child:
        """Start a child; raises _ServerLostError, SpawnError."""
        if self.lost.done():
            raise _ServerLostError
        self._number += 1
        number = self._number
        answer: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._requests[number] = answer
        try:
            packet = json.dumps({"request": number, "main": main, "rights": asdict(rights)})
            await self._send(packet.encode(), descriptors)
            return await answer
        except BaseException:
            # A child that is still started later is killed: nothing tracks it.
            self._requests.pop(number, None)
            raise

    async def close(self) -> None:
        """End the server and its children."""
        self._end()
        await self._process.wait()

    async def _send(self, packet: bytes, descriptors: Sequence[int]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                socket.send_fds(self._control, [packet], descriptors)
                return
            except BlockingIOError:
                writable = loop.create_future()
                loop.add_writer(self._control, _set, writable)
                try:
                    await writable
                finally:
                    loop.remove_writer(self._control)
            except OSError:
                self._end()
                raise _ServerLostError from None

    def _receive(self) -> None:
        try:
            packet, descriptors, _, _ = socket.recv_fds(
                self._control, PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        if packet:
            self._take(json.loads(packet), descriptors)
        else:
            self._end()

    def _take(self, report: dict[str, Any], descriptors: list[int]) -> None:
        if "ended" in report:
            child = self._children.pop(report["ended"], None)
            if child is not None:
                used = report["cpu_seconds"], report["memory_bytes"]
                child._close(Ended(report["status"], *used))
        elif "ready" in report:
            self._started.set_result(Protection(**report["ready"]))
        else:
            answer = self._requests.pop(report["request"], None)
            if "error" in report:
                if answer is not None and not answer.done():
                    answer.set_exception(SpawnError(f"no child can be forked: {report['error']}"))
                return
            if not descriptors:
                # No descriptor could be received, so the child cannot be watched.
                with suppress(ProcessLookupError):
                    os.kill(report["child"], signal.SIGKILL)
                if answer is not None and not answer.done():
                    answer.set_exception(SpawnError("too many descriptors are open"))
                return
            child = Child(report["child"], descriptors[0])
            self._children[child.pid] = child
            if answer is None or answer.done():
                child.kill()
            else:
                answer.set_result(child)

    def _end(self) -> None:
        """Record that the server has ended, and its children with it."""
        if self.lost.done():
            return
        self.lost.set_result(None)
        asyncio.get_running_loop().remove_reader(self._control)
        with suppress(ProcessLookupError):
            self._process.kill()
        self._control.close()
        for child in self._children.values():
            child.kill()
            child._close(Ended(None))
        self._children.clear()
        waiting: list[asyncio.Future[Any]] = [self._started, *self._requests.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(_ServerLostError())
        self._requests.clear()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
