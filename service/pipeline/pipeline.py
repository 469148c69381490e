"""The pipeline of one film: bytes, frames, latents, frames, film.

The film process reads and writes the film. Each stage here is a task of one task group, connected
to the next by a bounded queue, so a slow stage, a slow Triton or a caller who does not read applies
backpressure to all stages before it, except the receiving one, which always drains the caller's
bytes to disk. An error or a cancellation stops all stages and kills the process.
"""

import asyncio
import traceback
from typing import Protocol, TypeAlias

from film.errors import FilmError
from film.facts import FilmFacts
from film.output import OutputSettings
from film.process.film_process import FilmProcess, FilmProcesses, FrameBatch
from film.segments import ResumePoint
from service.errors import ServiceError
from service.film_errors import translated_process_errors
from service.inference import Inference, ModelVersion
from service.pipeline.events import StageSeconds
from service.pipeline.model_output import NO_MODEL_OUTPUT, ModelOutput
from service.pipeline.source import Source
from service.pipeline.stats import Stats
from service.retry import with_retries

BATCHES_READ = 1
"""Batches that wait for admission to Triton."""
BATCHES_IN_FLIGHT = 2
"""Batches in Triton, or waiting to be written, besides the two at the ends."""
PROGRESS_SECONDS = 0.5

BatchQueue: TypeAlias = asyncio.Queue[FrameBatch | None]
OutputQueue: TypeAlias = asyncio.Queue[tuple[FrameBatch, asyncio.Task[ModelOutput]] | None]
"""Of both, None is the end."""


class Output(Protocol):
    """The sink of the decoded frames."""

    @property
    def is_full(self) -> bool:
        """Whether the output is blocked by its consumer."""

    async def open(self, film: FilmProcess, facts: FilmFacts, stages: asyncio.TaskGroup) -> None:
        """Start with an opened film; may add further stages."""

    async def write(self, batch: FrameBatch, output: ModelOutput) -> None:
        """Write the film's next pictures with the model's output."""

    async def close(self, fault: ServiceError | None) -> None:
        """Finish after all that can be decoded; `fault`: why that is not the whole film."""

    def tick(self) -> None:
        """Called about twice a second."""


class Pipeline:
    """Runs one film; call `run` once."""

    def __init__(
        self,
        model: ModelVersion,
        settings: OutputSettings,
        *,
        inference: Inference,
        processes: FilmProcesses,
        source: Source,
        output: Output,
        stats: Stats,
        segmented: bool = False,
        resume: ResumePoint | None = None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._inference = inference
        self._processes = processes
        self._source = source
        self._output = output
        self._stats = stats
        self._segmented = segmented
        self._resume = resume

        self._ended = asyncio.Event()
        self._film_error: FilmError | None = None

    async def run(self) -> None:
        """Run the film to its end; cancellation stops everything.

        Raises:
            ServiceError: What went wrong. A film that is truncated is delivered as far as it goes.
            ResumeError: It does not continue from where it shall.
        """
        try:
            with translated_process_errors(self._source.fault):
                async with self._processes.film(self._source.bytes) as film:
                    await self._run_stages(film)
        finally:
            self._source.close()
            self._stats.close()
        if (fault := self._source.fault(self._film_error)) is not None:
            raise fault

    async def _run_stages(self, film: FilmProcess) -> None:
        try:
            async with asyncio.TaskGroup() as stages:
                receiving = stages.create_task(self._source.receive())
                stages.create_task(self._decode_film(film, stages, receiving))
                stages.create_task(self._watch(film))
        except BaseExceptionGroup as group:
            _release_frames(group)
            raise _first_cause(group) from None
        finally:
            self._count_seconds(film)

    # The film's bytes to batches of frames.

    async def _decode_film(
        self, film: FilmProcess, stages: asyncio.TaskGroup, receiving: asyncio.Task[None]
    ) -> None:
        """Pass on all that can be decoded, even if the film then turns out to be damaged."""
        try:
            facts = await film.open(self._settings, segmented=self._segmented, resume=self._resume)
        except FilmError as error:
            self._film_error = error.with_traceback(None)
            self._end(receiving)
            return
        self._stats.time_base = facts.time_base
        await self._output.open(film, facts, stages)
        read: BatchQueue = asyncio.Queue(BATCHES_READ)
        in_flight: OutputQueue = asyncio.Queue(BATCHES_IN_FLIGHT)
        stages.create_task(self._infer_batches(read, in_flight, stages))
        stages.create_task(self._write_film(in_flight, receiving))
        try:
            while (batch := await film.next()) is not None:
                self._stats.decoded(len(batch.pts))
                await read.put(batch)
        except FilmError as error:
            self._film_error = error.with_traceback(None)
        await read.put(None)

    # Batches through the model: several at once, in order.

    async def _infer_batches(
        self, read: BatchQueue, in_flight: OutputQueue, stages: asyncio.TaskGroup
    ) -> None:
        while (batch := await read.get()) is not None:
            await in_flight.put((batch, stages.create_task(self._infer(batch))))
        await in_flight.put(None)

    async def _infer(self, batch: FrameBatch) -> ModelOutput:
        if not len(batch.pts):
            return NO_MODEL_OUTPUT
        model = self._model
        encoded = await with_retries(lambda: self._inference.encode(model, batch.frames))
        decoded = await with_retries(lambda: self._inference.decode(model, encoded.latents))
        self._stats.reconstructed(len(batch.pts), encoded.compute_seconds, decoded.compute_seconds)
        return ModelOutput(encoded.latents, encoded.embeddings, decoded.frames)

    # Decoded frames to the output.

    async def _write_film(self, in_flight: OutputQueue, receiving: asyncio.Task[None]) -> None:
        while (entry := await in_flight.get()) is not None:
            batch, inference = entry
            await self._output.write(batch, await inference)
        await self._output.close(self._source.fault(self._film_error))
        if self._film_error is None:
            # Bytes after the last frame count for the film's size and digest.
            self._source.wait_for_end()
            await receiving
        self._end(receiving)

    def _end(self, receiving: asyncio.Task[None]) -> None:
        """Stop the tasks beside the stages; no more of the film's bytes are needed."""
        self._ended.set()
        receiving.cancel()

    # Beside the stages.

    async def _watch(self, film: FilmProcess) -> None:
        """Do the periodic work, about twice a second."""
        while not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), PROGRESS_SECONDS)
            except TimeoutError:
                self._count_seconds(film)
                if not self._output.is_full:
                    self._source.check_idle(film.waiting_since)
                self._output.tick()

    def _count_seconds(self, film: FilmProcess) -> None:
        known = self._stats.seconds
        self._stats.busy(
            StageSeconds(
                read=film.read_seconds - known.read, write=film.write_seconds - known.write
            )
        )


def _release_frames(error: BaseException | None) -> None:
    """Clear the local variables of the stages' frames: they hold batches of megabytes.

    The error's traceback is in a reference cycle with the stages' tasks, which would live until the
    next garbage collection.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                _release_frames(one)
        error = error.__context__


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error, of which the others are consequences."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
