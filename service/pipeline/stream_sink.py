"""The output of a film that is made for one caller: a fragmented MP4, as it is made."""

import asyncio
from typing import cast

from film.output import OutputSettings, output_size
from film.read.batch import FilmBatch
from film.read.film_reader import FilmReader
from film.write.film_writer import FilmWriter
from service.errors import ServiceError
from service.pipeline.events import Event, FilmOpened, LatentsMade, OutputChunk
from service.pipeline.model_output import ModelOutput
from service.pipeline.serial_executor import SerialExecutor
from service.pipeline.stats import Stats

CHUNK_BYTES = 2**20


class StreamSink:
    """Puts what is made into the caller's queue, and waits where that is full; an `Output`."""

    def __init__(
        self,
        settings: OutputSettings,
        stats: Stats,
        events: asyncio.Queue[Event],
        *,
        include_latents: bool,
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._events = events
        self._include_latents = include_latents
        self._writing = SerialExecutor("film-write")
        self._writer: FilmWriter | None = None
        self._fresh: list[bytes] = []
        self._opened = False
        self.warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long the writer was busy."""
        return self._writing.seconds

    @property
    def is_full(self) -> bool:
        """Whether the caller does not keep up."""
        return self._events.full()

    async def open(self, reader: FilmReader, stages: asyncio.TaskGroup) -> None:
        """Tell the caller what the film is, and begin the output."""
        size = output_size(reader.facts, self._settings)
        await self._events.put(FilmOpened(reader.facts, size))
        self._opened = True
        await self._writing.run(self._open_writer, reader)

    def _open_writer(self, reader: FilmReader) -> None:
        self._writer = FilmWriter(
            self._fresh.append, reader.facts, reader.sound_streams, self._settings
        )

    async def write(self, batch: FilmBatch, passed: ModelOutput) -> None:
        """Put the next pictures into the output."""
        writer = cast(FilmWriter, self._writer)
        if self._include_latents and len(batch.pts):
            await self._events.put(LatentsMade(batch.pts, passed.latents))
        await self._writing.run(writer.write, batch, passed.frames)
        self._stats.wrote(batch)
        await self._put_output()

    async def close(self, reader: FilmReader, fault: ServiceError | None) -> None:
        """Put what is left into the output."""
        writer = cast(FilmWriter, self._writer)
        await self._writing.run(writer.close)
        await self._put_output()
        self.warnings = (*reader.warnings, *writer.warnings)
        await self._events.put(self._stats.progress())

    async def _put_output(self) -> None:
        """Pass on what the writer has made since the last call; its thread is at rest."""
        output = b"".join(self._fresh)
        self._fresh.clear()
        for start in range(0, len(output), CHUNK_BYTES):
            chunk = output[start : start + CHUNK_BYTES]
            self._stats.bytes_sent += len(chunk)
            await self._events.put(OutputChunk(chunk))

    def tick(self) -> None:
        """Tell how far the work is; a caller who does not keep up is not told."""
        if self._opened and not self._events.full():
            self._events.put_nowait(self._stats.progress())

    async def release(self) -> None:
        """End the writer's thread; give up what it has not finished."""
        await self._writing.end(self._end_writer)

    def _end_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()  # Without effect on one that was closed.
