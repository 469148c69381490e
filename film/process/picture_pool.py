"""A pool of warm processes that decode, scale and encode single pictures.

Each has one picture in progress at a time. One that exceeds its time or memory is killed, as is one
whose caller has left, and is replaced: no thread has to cooperate, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from film.errors import (
    ImageCrashedError,
    ImageError,
    ImageLimitError,
    PictureProcessesBusyError,
    PictureProcessLostError,
)
from film.limits import PictureLimits
from film.process.channel import Message
from film.process.picture_process import (
    CRASHED,
    SERVED_AT_MOST,
    LostError,
    PictureProcess,
    over_memory,
)
from film.process.picture_protocol import WRITTEN_AT_ONCE, ImageFormat, PictureFault, PictureKind
from film.process.spawner import Spawner, SpawnError
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH

DEFAULT_LIMITS = PictureLimits()

_MESSAGE_CHARACTERS = 200

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A picture to search for."""

    frames: NDArray[np.uint8]
    """[1 or 2, 144, 256, 3]: the picture and, if it has bars, again without them."""
    detail: float
    """`film.quality.frame_detail` of the last one."""


class PicturePool:
    """Used on one event loop."""

    def __init__(
        self,
        spawner: Spawner,
        *,
        processes: int,
        limits: PictureLimits = DEFAULT_LIMITS,
        max_waiting: int = 256,
        on_replaced: Callable[[], None] = lambda: None,
    ) -> None:
        """Set up; nothing is started yet.

        Args:
            spawner: has PICTURE_MAIN among its modules; to be closed after the pool.
            processes: number of processes, and so of pictures in progress at once.
            limits: limits on one picture.
            max_waiting: pictures that may wait for a process; more are refused.
            on_replaced: called when a process that was killed or died is replaced.
        """
        self._spawner = spawner
        self._processes = processes
        self._limits = limits
        self._max_waiting = max_waiting
        self._on_replaced = on_replaced
        self._idle: asyncio.Queue[asyncio.Future[PictureProcess]] = asyncio.Queue()
        """Processes that are idle or being started."""
        self._starting: set[asyncio.Task[PictureProcess]] = set()
        self._alive: set[PictureProcess] = set()
        self._closed = False
        self._waiting = 0

    async def start(self) -> None:
        """Start the processes; raises SpawnError."""
        for _ in range(self._processes):
            self._start()
        await asyncio.gather(*self._starting)

    async def close(self) -> None:
        """End the processes, and their work in progress."""
        self._closed = True
        starting = list(self._starting)
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        for process in list(self._alive):
            await process.end()

    @property
    def waiting(self) -> int:
        """Pictures that wait for a process."""
        return self._waiting

    async def read(self, picture: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
        """Return a picture as a model frame, [144, 256, 3].

        Cancelling the call kills the process that is working on the picture.

        Args:
            picture: a JPEG, PNG or WebP file, or raw RGB.
            size: width and height of raw RGB; None for a file.

        Raises:
            ImageLimitError: it takes more than allowed.
            ImageCrashedError: the decoder crashed on it.
            ImageError: it is not a picture, or is damaged.
            PictureProcessesBusyError: too many are waiting already.
            PictureProcessLostError: its process was killed from outside, twice; try again later.
        """
        fields = self._reading(size, survey=False)
        frames = await self._ask(PictureKind.READ, fields, picture, _frames)
        frame: NDArray[np.uint8] = frames[0]
        return frame

    async def survey(self, picture: bytes, size: tuple[int, int] | None) -> Surveyed:
        """Return a picture prepared for a search; raises as `read`."""
        fields = self._reading(size, survey=True)
        return await self._ask(PictureKind.READ, fields, picture, _surveyed)

    async def write(self, frames: NDArray[np.uint8], format: ImageFormat) -> list[bytes]:
        """Return model frames, [N, 144, 256, 3], as picture files, made by several processes.

        Raises as `read`, except errors of the picture.
        """
        parts = [
            asyncio.ensure_future(self._write(frames[at : at + WRITTEN_AT_ONCE], format))
            for at in range(0, len(frames), WRITTEN_AT_ONCE)
        ]
        try:
            return [file for files in await asyncio.gather(*parts) for file in files]
        finally:
            for part in parts:
                part.cancel()

    async def _write(self, frames: NDArray[np.uint8], format: ImageFormat) -> list[bytes]:
        data = np.ascontiguousarray(frames).data.cast("B")
        return await self._ask(
            PictureKind.WRITE, {"format": format}, data, lambda answer: _files(answer, len(frames))
        )

    def _reading(self, size: tuple[int, int] | None, *, survey: bool) -> dict[str, Any]:
        width, height = size or (0, 0)
        pixels = self._limits.pixels
        return {"width": width, "height": height, "max_pixels": pixels, "survey": survey}

    async def _ask(
        self,
        kind: PictureKind,
        fields: dict[str, Any],
        payload: bytes | memoryview,
        parse: Callable[[Message], Answer],
    ) -> Answer:
        # A process killed from outside is not its picture's fault: retry once.
        for _ in range(2):
            async with self._process() as process:
                try:
                    answer = await process.ask(kind, fields, payload)
                except LostError:
                    continue
                try:
                    outcome = (
                        self._refusal(answer)
                        if answer.kind == PictureKind.FAILED
                        else parse(answer)
                    )
                except (KeyError, TypeError, ValueError, RecursionError):
                    raise ImageCrashedError(CRASHED) from None
                process.is_free = True
            if isinstance(outcome, ImageError):
                raise outcome
            return outcome
        raise PictureProcessLostError("the process that had the picture in progress was killed")

    def _refusal(self, answer: Message) -> ImageError:
        fields = answer.fields()
        message = str(fields["message"])[:_MESSAGE_CHARACTERS]
        match PictureFault(fields["error"]):
            case PictureFault.DAMAGED:
                return ImageError(message)
            case PictureFault.PIXELS:
                return ImageLimitError(message, "pixels")
            case PictureFault.MEMORY:
                return over_memory(self._limits)

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[PictureProcess]:
        """Borrow a process exclusively; it is replaced if it is still busy at the end."""
        process = await self._next()
        try:
            yield process
        finally:
            if self._closed:
                pass
            elif process.is_free and process.served < SERVED_AT_MOST:
                self._put(process)
            else:
                if not process.is_free:
                    self._on_replaced()
                self._start(process)

    async def _next(self) -> PictureProcess:
        if self._idle.empty() and self._waiting >= self._max_waiting:
            raise PictureProcessesBusyError(
                f"{self._max_waiting} pictures wait for a process already"
            )
        self._waiting += 1
        try:
            while not self._closed:
                place = await self._idle.get()
                try:
                    process = await asyncio.shield(place)
                except SpawnError:
                    self._start()
                    raise PictureProcessLostError("no process can be started") from None
                except asyncio.CancelledError:
                    if not self._closed:
                        self._idle.put_nowait(place)
                    raise
                if not process.child.ended.done():
                    return process
                self._on_replaced()
                self._start(process)
            raise PictureProcessLostError("the processes for pictures are closed")
        finally:
            self._waiting -= 1

    def _put(self, process: PictureProcess) -> None:
        place: asyncio.Future[PictureProcess] = asyncio.get_running_loop().create_future()
        place.set_result(process)
        self._idle.put_nowait(place)

    def _start(self, instead_of: PictureProcess | None = None) -> None:
        """Start a process once the one it replaces has ended."""
        task = asyncio.ensure_future(self._started(instead_of))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        self._idle.put_nowait(task)

    async def _started(self, instead_of: PictureProcess | None) -> PictureProcess:
        if instead_of is not None:
            await instead_of.end()
            self._alive.discard(instead_of)
        process = await PictureProcess.start(self._spawner, self._limits)
        self._alive.add(process)
        return process


def _frames(answer: Message) -> NDArray[np.uint8]:
    """Return the frames of an answer; raises ValueError if it has none."""
    frames = np.frombuffer(answer.payload, np.uint8)
    frames = frames.reshape(-1, MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3)
    if not 1 <= len(frames) <= 2:
        raise ValueError
    return frames


def _surveyed(answer: Message) -> Surveyed:
    detail = float(answer.fields()["detail"])
    if not math.isfinite(detail):
        raise ValueError
    return Surveyed(_frames(answer), detail)


def _files(answer: Message, count: int) -> list[bytes]:
    files, at = [], 0
    for size in answer.fields()["sizes"]:
        files.append(bytes(answer.payload[at : at + size]))
        at += size
    if len(files) != count or at != len(answer.payload):
        raise ValueError
    return files
