"""The output for one caller: a fragmented MP4, streamed while it is made."""

import asyncio

from film.facts import FilmFacts
from film.output import OutputSettings, output_size
from film.process.film_process import FilmProcess, FrameBatch
from service.errors import ServiceError
from service.pipeline.events import Event, FilmOpened, LatentsMade, OutputChunk
from service.pipeline.model_output import ModelOutput
from service.pipeline.stats import Stats

CHUNK_BYTES = 2**20


class StreamSink:
    """Puts the output into the caller's queue, and blocks while that is full; an `Output`."""

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
        self._film: FilmProcess
        self._opened = False
        self.warnings: tuple[str, ...] = ()

    @property
    def is_full(self) -> bool:
        """Whether the caller does not keep up."""
        return self._events.full()

    async def open(self, film: FilmProcess, facts: FilmFacts, stages: asyncio.TaskGroup) -> None:
        """Send the film's facts, and start the output."""
        self._film = film
        await self._events.put(FilmOpened(facts, output_size(facts, self._settings)))
        self._opened = True
        await film.begin_stream(self._settings)

    async def write(self, batch: FrameBatch, output: ModelOutput) -> None:
        """Write the next pictures."""
        if self._include_latents and len(batch.pts):
            await self._events.put(LatentsMade(batch.pts, output.latents))
        written = await self._film.write(batch, output.frames)
        self._stats.wrote(batch)
        await self._put_output(written.data)

    async def close(self, fault: ServiceError | None) -> None:
        """Write the rest."""
        written = await self._film.close()
        await self._put_output(written.data)
        self.warnings = written.warnings
        await self._events.put(self._stats.progress())

    async def _put_output(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            self._stats.bytes_sent += len(chunk)
            await self._events.put(OutputChunk(chunk))

    def tick(self) -> None:
        """Send the progress, unless the caller's queue is full."""
        if self._opened and not self._events.full():
            self._events.put_nowait(self._stats.progress())
