"""One process of the picture pool: limits its processor time, and explains its end."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import time
from typing import Any, Self

from film.errors import ImageCrashedError, ImageLimitError
from film.limits import PictureLimits
from film.process.channel import Bounds, ChannelClosedError, ChannelError, Message, ServiceChannel
from film.process.picture_protocol import FRAME_BYTES, PICTURE_MAIN, WRITTEN_AT_ONCE, PictureKind
from film.process.sandbox import Rights
from film.process.spawner import Child, Ended, Spawner

SERVED_AT_MOST = 1000
"""Pictures after which a process is replaced, so that no state stays in one for long."""
CRASHED = "the picture's codec crashed"

_FILE_BYTES = 2 * FRAME_BYTES
"""Maximum bytes of one written frame; a PNG of noise takes a little more than the frame."""
_ANSWER_BOUNDS = Bounds(json_bytes=1 << 12, payload_bytes=WRITTEN_AT_ONCE * _FILE_BYTES)
_SOCKET_BYTES = 4 << 20
"""Socket buffer for large pictures; the system's default splits them into many small pieces."""
_STALLED_SECONDS = 10.0
"""A process that uses no processor time for this long was stopped from outside."""
_LOOK_SECONDS = 0.05
_END_SECONDS = 5.0
"""How long a process may take to end once it has closed its socket; then it is killed."""
_NEARLY_FULL = 0.8
"""Share of the memory allowed; a process that dies above it is taken to have died of that."""


class LostError(Exception):
    """The process was killed from outside."""


class PictureProcess:
    """One process and the socket to it."""

    def __init__(self, child: Child, channel: ServiceChannel, limits: PictureLimits) -> None:
        self.child = child
        self.is_free = True
        """Whether it has nothing in progress; set again by the caller that accepted its answer."""
        self.served = 0
        self._channel = channel
        self._limits = limits

    @classmethod
    async def start(cls, spawner: Spawner, limits: PictureLimits) -> Self:
        """Start one; raises SpawnError."""
        rights = Rights(
            memory_bytes=limits.memory_bytes,
            # A backstop: each picture's time is limited here.
            cpu_seconds=math.ceil(limits.seconds * SERVED_AT_MOST),
        )
        ours, theirs = socket.socketpair()
        channel = ServiceChannel(ours)
        try:
            with theirs:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
                child = await spawner.spawn(PICTURE_MAIN, [theirs.fileno()], rights)
        except BaseException:
            channel.close()
            raise
        return cls(child, channel, limits)

    async def ask(
        self, kind: PictureKind, fields: dict[str, Any], payload: bytes | memoryview
    ) -> Message:
        """Return the answer; raises LostError, ImageLimitError, ImageCrashedError."""
        self.is_free = False
        self.served += 1
        with _Watch(self.child, self._limits.seconds) as watch:
            try:
                await self._channel.send(kind, fields, payload)
                return await self._channel.receive(_ANSWER_BOUNDS)
            except ChannelClosedError:
                ended = await self.child.gone(_END_SECONDS)
                raise self._why(ended, overran=watch.overran) from None
            except ChannelError:
                raise ImageCrashedError(CRASHED) from None

    async def end(self) -> None:
        """Kill it; a caller waiting for its answer gets an error."""
        await self.child.end()
        self._channel.close()

    def _why(self, ended: Ended, *, overran: bool) -> Exception:
        if overran or ended.status == -signal.SIGXCPU:
            return ImageLimitError(
                f"the picture takes more than {self._limits.seconds:g} s of processor time",
                "seconds",
            )
        if ended.memory_bytes >= _NEARLY_FULL * self._limits.memory_bytes:
            return over_memory(self._limits)
        if ended.status in (None, -signal.SIGKILL):
            return LostError()
        return ImageCrashedError(CRASHED)


class _Watch:
    """Kills a process that takes too long for one picture, or makes no progress."""

    def __init__(self, child: Child, seconds: float) -> None:
        self.overran = False
        """Whether it exceeded its seconds of processor time."""
        self._child = child
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._began = self._used = self._cpu_seconds()
        self._went_on = self._loop.time()

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(min(self._seconds, _STALLED_SECONDS), self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        used, now = self._cpu_seconds(), self._loop.time()
        left = self._seconds - (used - self._began)
        if used > self._used:
            self._used, self._went_on = used, now
        if left <= 0:
            self.overran = True
            self._child.kill()
        elif now - self._went_on >= _STALLED_SECONDS:
            self._child.kill()
        else:
            pause = min(max(left, _LOOK_SECONDS), _STALLED_SECONDS)
            self._timer = self._loop.call_later(pause, self._look)

    def _cpu_seconds(self) -> float:
        try:
            return time.clock_gettime((~self._child.pid << 3) | 2)  # clock_getcpuclockid(3)
        except OSError:
            return 0.0  # It has ended.


def over_memory(limits: PictureLimits) -> ImageLimitError:
    """Return the error of a picture that takes too much memory."""
    return ImageLimitError(
        f"the picture takes more than {limits.memory_bytes} bytes of memory", "memory_bytes"
    )
