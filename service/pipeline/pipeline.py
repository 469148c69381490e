"""One film on its way through: bytes, frames, latents, frames, film.

Each stage is a task of one task group, joined to the next by a bounded queue; what blocks (disk,
FFmpeg) runs on the stage's own thread. A slow stage, a slow Triton or a caller who does not read
thus slows all stages before it, except the receiving one, which drains the caller's bytes to disk
whatever happens behind it. An error or a cancellation ends all stages.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Protocol

from film.errors import FilmError
from film.facts import FilmFacts
from film.output import OutputSettings, picture_size
from film.read.batch import FilmBatch
from film.read.film_reader import FilmReader
from film.segments import ResumePoint
from service.aio import run_to_completion
from service.errors import ServiceError
from service.inference import Inference, ModelVersion
from service.pipeline.events import StageSeconds
from service.pipeline.model_output import NO_MODEL_OUTPUT, ModelOutput
from service.pipeline.serial_executor import SerialExecutor
from service.pipeline.source import Source
from service.pipeline.stats import Stats
from service.retry import persistently

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
PROGRESS_SECONDS = 0.5


class Output(Protocol):
    """What is made of the decoded frames."""

    @property
    def seconds(self) -> float:
        """How long the writer was busy."""

    @property
    def is_full(self) -> bool:
        """Whether the work waits for somebody to take what is made."""

    async def open(self, reader: FilmReader, stages: asyncio.TaskGroup) -> None:
        """Begin, with an opened film; further stages may be added."""

    async def write(self, batch: FilmBatch, passed: ModelOutput) -> None:
        """Take the film's next pictures and what the model made of them."""

    async def close(self, reader: FilmReader, fault: ServiceError | None) -> None:
        """Finish: all that can be decoded was written. `fault`: why that was not the whole film."""

    def tick(self) -> None:
        """Do what is to be done about twice a second."""

    async def release(self) -> None:
        """End its thread; give up what is not finished."""


class Pipeline:
    """Takes one film through; `run` once."""

    def __init__(
        self,
        model: ModelVersion,
        settings: OutputSettings,
        *,
        inference: Inference,
        source: Source,
        output: Output,
        stats: Stats,
        segmented: bool = False,
        resume: ResumePoint | None = None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._inference = inference
        self._source = source
        self._output = output
        self._stats = stats
        self._segmented = segmented
        self._resume = resume

        self._reading = SerialExecutor("film-read")
        self._reader: FilmReader | None = None
        self._read: asyncio.Queue[FilmBatch | None] = asyncio.Queue(BATCHES_READ)
        self._passed: asyncio.Queue[tuple[FilmBatch, asyncio.Task[ModelOutput]] | None]
        self._passed = asyncio.Queue(BATCHES_PASSED)
        self._receiving: asyncio.Task[None]
        self._ended = asyncio.Event()
        self._film_error: FilmError | None = None

    async def run(self) -> None:
        """Take the film through; each wait of this can be cancelled, and then all of it ends.

        Raises:
            ServiceError: What went wrong. A film that breaks off is delivered as far as it goes.
        """
        try:
            async with asyncio.TaskGroup() as stages:
                self._receiving = stages.create_task(self._source.receive())
                stages.create_task(self._decode_film(stages))
                stages.create_task(self._watch())
        except BaseExceptionGroup as group:
            raise _first_cause(group) from None
        finally:
            await run_to_completion(self._close())
        if (fault := self._source.fault(self._film_error)) is not None:
            raise fault

    # The film's bytes to batches of frames.

    async def _decode_film(self, stages: asyncio.TaskGroup) -> None:
        """Hand on all that can be decoded, also of a film that then turns out to be at fault."""
        try:
            reader = await self._reading.run(self._open_reader)
        except FilmError as error:
            self._film_error = error
            self._end()
            return
        await self._output.open(reader, stages)
        stages.create_task(self._pass_batches(stages))
        stages.create_task(self._write_film(reader))
        batches = reader.batches(_batch_frames(reader.facts, self._settings))
        try:
            while (batch := await self._reading.run(next, batches, None)) is not None:
                self._stats.decoded(len(batch.pts))
                await self._read.put(batch)
        except FilmError as error:
            self._film_error = error
        await self._read.put(None)

    def _open_reader(self) -> FilmReader:
        settings = self._settings
        self._reader = FilmReader(
            self._source.file,
            picture_size=lambda facts: picture_size(facts, settings),
            sound=settings.sound,
            segmented=self._segmented,
            resume=self._resume,
        )
        self._stats.time_base = self._reader.facts.time_base
        return self._reader

    # Batches through the model: several at once, in order.

    async def _pass_batches(self, stages: asyncio.TaskGroup) -> None:
        while (batch := await self._read.get()) is not None:
            await self._passed.put((batch, stages.create_task(self._pass(batch))))
        await self._passed.put(None)

    async def _pass(self, batch: FilmBatch) -> ModelOutput:
        if not len(batch.pts):
            return NO_MODEL_OUTPUT
        model = self._model
        encoded = await persistently(lambda: self._inference.encode(model, batch.frames))
        decoded = await persistently(lambda: self._inference.decode(model, encoded.latents))
        self._stats.reconstructed(len(batch.pts), encoded.compute_seconds, decoded.compute_seconds)
        return ModelOutput(encoded.latents, encoded.embeddings, decoded.frames)

    # Decoded frames to the output.

    async def _write_film(self, reader: FilmReader) -> None:
        while (entry := await self._passed.get()) is not None:
            batch, passing = entry
            await self._output.write(batch, await passing)
        await self._output.close(reader, self._source.fault(self._film_error))
        if self._film_error is None:
            # What follows the last frame belongs to the film as well: its size, its digest.
            self._source.wait_for_end()
            await self._receiving
        self._end()

    def _end(self) -> None:
        """End what runs beside the stages; no more of the film's bytes are needed."""
        self._ended.set()
        self._receiving.cancel()

    # Beside the stages.

    async def _watch(self) -> None:
        """See to what is to be done about twice a second."""
        while not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), PROGRESS_SECONDS)
            except TimeoutError:
                self._count_seconds()
                if not self._output.is_full:
                    self._source.check_idle()
                self._output.tick()

    # What is left behind.

    def _end_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        self._source.file.close()

    def _count_seconds(self) -> None:
        read = self._reading.seconds - self._source.file.waited
        known = self._stats.seconds
        self._stats.busy(
            StageSeconds(read=max(0.0, read - known.read), write=self._output.seconds - known.write)
        )

    async def _close(self) -> None:
        """End every thread, close each container on its own, give the source back."""
        self._source.cancel()
        async with AsyncExitStack() as ends:
            # The last one first: the writer still refers to the reader's streams.
            ends.push_async_callback(self._source.close)
            ends.push_async_callback(self._reading.end, self._end_reader)
            ends.push_async_callback(self._output.release)
        self._count_seconds()
        self._stats.close()
        # What is left in the queues is large, and tasks refer to the frames that refer to them:
        # without this it would all wait for Python's next collection of cycles.
        del self._read, self._passed, self._receiving


def _batch_frames(facts: FilmFacts, output: OutputSettings) -> int:
    size = picture_size(facts, output)
    if size is None:
        return BATCH_FRAMES
    width, height = size
    return max(1, min(BATCH_FRAMES, BATCH_PICTURE_BYTES // (width * height * 3)))


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what ended the stages: the first error, of which the others are consequences."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
