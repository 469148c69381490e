"""One film on its way through: bytes, spool, frames, latents, frames, film.

Each stage is a task of one task group, joined to the next by a bounded queue; what blocks (disk,
FFmpeg) runs on the stage's own thread. A slow stage, a slow Triton or a caller who does not read
thus slows all stages before it, except the receiving one, which drains the caller's bytes to disk
whatever happens behind it. An error or a cancellation ends all stages.
"""

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from film.batch import FilmBatch
from film.errors import FilmError
from film.facts import FilmFacts
from film.frame import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from film.output import OutputSettings, output_size, picture_size
from film.reader import FilmReader
from film.spool import Spool
from film.writer import FilmWriter
from service.errors import IdleCallerError, InvalidFieldError, ServiceError, UnavailableError
from service.inference import LATENT_SIZE, Inference
from service.reconstruction.events import (
    Event,
    FilmOpened,
    LatentsMade,
    OutputChunk,
    ReconstructionSettings,
    StageSeconds,
    Summary,
)
from service.reconstruction.faults import film_fault, short_film_fault, spool_fault
from service.reconstruction.stage import StageThread
from service.reconstruction.tally import Tally
from service.reconstruction.watched import WatchedFile

T = TypeVar("T")

BATCH_FRAMES = 32
"""Measured with a `pca` model on two cores that were busy with other work as well, 640 x 360,
frames a second, median (range): 32 frames 209 (173 to 240), 16 frames 157 (129 to 218), both with
two batches passed; 32 frames and one passed 117; 8 frames and four 139; 16 frames and four 151."""
BATCH_PICTURE_BYTES = 32 * 2**20
"""Source pictures of one batch (side by side): large pictures make small batches."""
BATCHES_READ = 1
"""Batches that wait for a place in front of Triton."""
BATCHES_PASSED = 2
"""Batches in Triton, or behind it and waiting to be written, besides the two at the ends."""
CHUNK_BYTES = 2**20
PROGRESS_SECONDS = 0.5
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Pauses before a batch that found Triton unavailable is tried again: a local Triton that died is
back, with its models, within these."""


@dataclass(frozen=True, slots=True)
class _Passed:
    """What the model made of a batch."""

    latents: NDArray[np.float32]
    frames: NDArray[np.uint8]


_NOTHING_PASSED = _Passed(
    np.empty((0, LATENT_SIZE), np.float32),
    np.empty((0, MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3), np.uint8),
)


class Pipeline:
    """Takes one film through; `run` once."""

    def __init__(
        self,
        settings: ReconstructionSettings,
        *,
        inference: Inference,
        spool: Spool,
        chunks: AsyncIterable[bytes],
        events: asyncio.Queue[Event],
        idle_seconds: float,
    ) -> None:
        self._settings = settings
        self._inference = inference
        self._spool = spool
        self._chunks = chunks
        self._events = events
        self._idle_seconds = idle_seconds

        self._file = WatchedFile(spool.open())
        self._spooling = StageThread("film-spool")
        self._reading = StageThread("film-read")
        self._writing = StageThread("film-write")
        self._reader: FilmReader | None = None
        self._writer: FilmWriter | None = None
        self._fresh_output: list[bytes] = []

        self._read: asyncio.Queue[FilmBatch | None] = asyncio.Queue(BATCHES_READ)
        self._passed: asyncio.Queue[tuple[FilmBatch, asyncio.Task[_Passed]] | None]
        self._passed = asyncio.Queue(BATCHES_PASSED)

        self._tally = Tally(settings.model)
        self._last_chunk_at = time.monotonic()
        self._waits_for_end_since: float | None = None
        self._receiving: asyncio.Task[None]
        self._all_received = asyncio.Event()
        self._opened = False
        self._ended = asyncio.Event()
        self._film_error: FilmError | None = None

    async def run(self) -> None:
        """Take the film through; each wait of this can be cancelled, and then all of it ends.

        Raises:
            ServiceError: What went wrong. A film that breaks off is delivered as far as it goes.
        """
        try:
            async with asyncio.TaskGroup() as stages:
                self._receiving = stages.create_task(self._receive())
                stages.create_task(self._decode_film(stages))
                stages.create_task(self._watch())
        except BaseExceptionGroup as group:
            raise _first_cause(group) from None
        finally:
            # A second cancellation must not cut this short: threads end and the spool goes.
            await asyncio.shield(asyncio.ensure_future(self._close()))
        if (fault := self._fault()) is not None:
            raise fault

    # The caller's bytes to the spool.

    async def _receive(self) -> None:
        async for chunk in self._chunks:
            self._last_chunk_at = time.monotonic()
            self._tally.bytes_received += len(chunk)
            self._check_size()
            try:
                await self._spooling.run(self._spool.write, chunk)
            except FilmError as error:
                raise spool_fault(error) from None
        if not self._tally.bytes_received:
            raise InvalidFieldError(
                "chunk", "the stream ended without one byte of a film", reason="EMPTY_FILM"
            )
        self._all_received.set()
        await self._spooling.run(self._spool.finish)

    def _check_size(self) -> None:
        announced = self._settings.film_bytes
        if announced is not None and self._tally.bytes_received > announced:
            raise InvalidFieldError(
                "settings.film_size_bytes",
                f"the film holds more than the {announced} bytes announced",
                reason="FILM_SIZE_MISMATCH",
            )

    # The spool to batches of frames.

    async def _decode_film(self, stages: asyncio.TaskGroup) -> None:
        """Hand on all that can be decoded, also of a film that then turns out to be at fault."""
        try:
            reader = await self._reading.run(self._open_reader)
        except FilmError as error:
            self._film_error = error
            self._end()
            return
        size = output_size(reader.facts, self._settings.output)
        await self._events.put(FilmOpened(reader.facts, size))
        self._opened = True
        stages.create_task(self._pass_batches(stages))
        stages.create_task(self._encode_film(reader))
        batches = reader.batches(_batch_frames(reader.facts, self._settings.output))
        try:
            while (batch := await self._reading.run(next, batches, None)) is not None:
                self._tally.decoded(len(batch.pts))
                await self._read.put(batch)
        except FilmError as error:
            self._film_error = error
        await self._read.put(None)

    def _open_reader(self) -> FilmReader:
        output = self._settings.output
        self._reader = FilmReader(
            self._file,
            picture_size=lambda facts: picture_size(facts, output),
            sound=output.sound,
        )
        return self._reader

    # Batches through the model: several at once, in order.

    async def _pass_batches(self, stages: asyncio.TaskGroup) -> None:
        while (batch := await self._read.get()) is not None:
            await self._passed.put((batch, stages.create_task(self._pass(batch))))
        await self._passed.put(None)

    async def _pass(self, batch: FilmBatch) -> _Passed:
        if not len(batch.pts):
            return _NOTHING_PASSED
        model = self._settings.model
        encoded = await _persistently(lambda: self._inference.encode(model, batch.frames))
        decoded = await _persistently(lambda: self._inference.decode(model, encoded.latents))
        self._tally.reconstructed(len(batch.pts), encoded.compute_seconds, decoded.compute_seconds)
        return _Passed(encoded.latents, decoded.frames)

    # Decoded frames to the output film.

    async def _encode_film(self, reader: FilmReader) -> None:
        writer = await self._writing.run(self._open_writer, reader)
        while (entry := await self._passed.get()) is not None:
            batch, passing = entry
            passed = await passing
            if self._settings.include_latents and len(batch.pts):
                await self._events.put(LatentsMade(batch.pts, passed.latents))
            await self._writing.run(writer.write, batch, passed.frames)
            self._tally.wrote(batch, reader.facts.time_base)
            await self._put_output()
        await self._writing.run(writer.close)
        await self._put_output()
        await self._put_end(reader, writer)

    def _open_writer(self, reader: FilmReader) -> FilmWriter:
        self._writer = FilmWriter(
            self._fresh_output.append, reader.facts, reader.sound_streams, self._settings.output
        )
        return self._writer

    async def _put_output(self) -> None:
        """Pass on what the writer has made since the last call; its thread is at rest."""
        output = b"".join(self._fresh_output)
        self._fresh_output.clear()
        for start in range(0, len(output), CHUNK_BYTES):
            chunk = output[start : start + CHUNK_BYTES]
            self._tally.bytes_sent += len(chunk)
            await self._events.put(OutputChunk(chunk))

    async def _put_end(self, reader: FilmReader, writer: FilmWriter) -> None:
        await self._events.put(self._tally.progress())
        if self._film_error is None:
            # What follows the last frame belongs to the film as well: its size, its digest.
            self._waits_for_end_since = time.monotonic()
            await self._receiving
        self._end()
        if self._fault() is None:
            await self._events.put(await self._summary(reader, writer))

    def _end(self) -> None:
        """End what runs beside the stages; no more of the caller's bytes are needed."""
        self._ended.set()
        self._receiving.cancel()

    async def _summary(self, reader: FilmReader, writer: FilmWriter) -> Summary:
        digest = await self._spooling.run(self._spool.digest)
        self._count_seconds()
        return Summary(
            frames=self._tally.frames_written,
            duration=self._tally.position,
            bytes_received=self._tally.bytes_received,
            bytes_sent=self._tally.bytes_sent,
            film_digest=digest,
            stage_seconds=self._tally.seconds,
            warnings=(*reader.warnings, *writer.warnings),
        )

    def _fault(self) -> ServiceError | None:
        """Return what is wrong with the film, as far as it was read."""
        announced = self._settings.film_bytes
        received = self._tally.bytes_received
        if announced is not None and self._all_received.is_set() and received < announced:
            return short_film_fault(announced, self._tally)
        if self._film_error is not None:
            return film_fault(self._film_error, self._tally)
        return None

    # Beside the stages.

    async def _watch(self) -> None:
        """Tell the caller how far the work is; end a call whose caller sends nothing any more."""
        while not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), PROGRESS_SECONDS)
            except TimeoutError:
                self._count_seconds()
                self._check_idle()
                # A caller who does not keep up is not told about it.
                if self._opened and not self._events.full():
                    self._events.put_nowait(self._tally.progress())

    def _check_idle(self) -> None:
        """Raise IdleCallerError when the work waits for bytes, and nothing else, for too long."""
        waiting_since = self._file.waiting_since or self._waits_for_end_since
        if waiting_since is None or self._all_received.is_set() or self._events.full():
            return
        idle = time.monotonic() - max(waiting_since, self._last_chunk_at)
        if idle >= self._idle_seconds:
            raise IdleCallerError(
                f"no byte of the film came for {idle:.0f} s; send its bytes, or half-close the "
                "stream where it ends",
                metadata={"bytes_received": str(self._tally.bytes_received)},
            )

    # What is left behind.

    def _end_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()  # Without effect on one that was closed.

    def _end_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        self._file.close()

    def _count_seconds(self) -> None:
        seconds = StageSeconds(
            read=self._reading.seconds - self._file.waited, write=self._writing.seconds
        )
        known = self._tally.seconds
        self._tally.busy(
            StageSeconds(
                read=max(0.0, seconds.read - known.read), write=seconds.write - known.write
            )
        )

    async def _close(self) -> None:
        """End every thread, close each container on its own, give the spool's bytes back."""
        self._spool.cancel()
        async with AsyncExitStack() as ends:
            # The last one first: the writer still refers to the reader's streams.
            ends.push_async_callback(self._spooling.end, self._spool.close)
            ends.push_async_callback(self._reading.end, self._end_reader)
            ends.push_async_callback(self._writing.end, self._end_writer)
        self._count_seconds()
        self._tally.close()
        # What is left in the queues is large, and tasks refer to the frames that refer to them:
        # without this it would all wait for Python's next collection of cycles.
        del self._read, self._passed, self._receiving


def _batch_frames(facts: FilmFacts, output: OutputSettings) -> int:
    size = picture_size(facts, output)
    if size is None:
        return BATCH_FRAMES
    width, height = size
    return max(1, min(BATCH_FRAMES, BATCH_PICTURE_BYTES // (width * height * 3)))


async def _persistently(infer: Callable[[], Awaitable[T]]) -> T:
    """Await `infer()`, again and again while Triton is unavailable, a bounded number of times."""
    for pause in RETRY_SECONDS:
        try:
            return await infer()
        except UnavailableError:
            await asyncio.sleep(pause)
    return await infer()


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what ended the stages: the first error, of which the others are consequences."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
