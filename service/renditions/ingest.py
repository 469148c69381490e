"""Reconstructs a film that a caller streams, and stores both in the library."""

import asyncio
import secrets
from collections.abc import AsyncIterable
from contextlib import suppress

from film.facts import FilmFacts
from film.output import OutputSettings, output_size
from film.process.film_process import FilmProcess, FilmProcesses, FrameBatch
from film.spool import Spool
from service.aio import run_to_completion
from service.errors import ServiceError, UnavailableError
from service.inference import Inference
from service.library import layout
from service.library.films import Film
from service.library.library import Library
from service.library.renditions import rendition_id
from service.library.segment_records import SegmentRecord
from service.library.upload import Upload
from service.pipeline.events import (
    Event,
    FilmOpened,
    LatentsMade,
    OutputChunk,
    Summary,
)
from service.pipeline.model_output import ModelOutput
from service.pipeline.pipeline import Pipeline
from service.pipeline.source import ArrivingSource
from service.pipeline.stats import Stats
from service.renditions.commit import commit
from service.renditions.reconstruction_settings import ReconstructionSettings
from service.renditions.rendition_writer import Place, RenditionWriter
from service.renditions.segment_sink import SegmentSink
from service.renditions.target import Target
from service.renditions.writes import Writes
from service.storage.objects import delete_below

CHUNK_BYTES = 2**20


class Ingest:
    """Stores one film that is reconstructed while it arrives; call `run` once."""

    def __init__(
        self,
        library: Library,
        inference: Inference,
        processes: FilmProcesses,
        upload: Upload,
        settings: ReconstructionSettings,
        spool: Spool,
        chunks: AsyncIterable[bytes],
        events: asyncio.Queue[Event],
        *,
        idle_seconds: float,
    ) -> None:
        """Store the film through `upload`, which was just opened."""
        self._library = library
        self._inference = inference
        self._processes = processes
        self._upload = upload
        self._settings = settings
        self._spool = spool
        self._chunks = chunks
        self._events = events
        self._idle_seconds = idle_seconds
        self._writes = Writes(library.threads)
        self._stats = Stats(settings.model)
        self._records: list[SegmentRecord] = []
        self._place = Place(
            upload.film_id,
            rendition_id(settings.model.digest, settings.output),
            f"000001-{secrets.token_hex(4)}",
        )
        self._attempt = RenditionWriter(
            library,
            self._writes,
            self._place,
            settings.model,
            before=None,
            keeps_latents=True,
            may_go_on=_always,
            kept=self._kept,
        )

    async def run(self) -> None:
        """Reconstruct and store the film; a truncated film is not stored."""
        film: Film | None = None
        try:
            await self._take_through()
            # No other job may start between the film's commit and its rendition's.
            place = self._place
            await self._writes.with_retries(
                self._library.leases.take, place.film, place.rendition, None
            )
            film = await self._writes.with_retries(self._upload.finish)
        finally:
            if film is None:
                await run_to_completion(self._drop())
        await self._events.put(await self._finish(film))

    async def _take_through(self) -> None:
        settings = self._settings
        source = ArrivingSource(
            self._spool,
            self._chunks,
            self._stats,
            announced=settings.film_bytes,
            idle_seconds=self._idle_seconds,
            also=self._keep_bytes,
        )
        output = _IngestSink(
            settings.output,
            self._stats,
            self._attempt,
            self._events,
            include_latents=settings.include_latents,
        )
        await Pipeline(
            settings.model,
            settings.output,
            inference=self._inference,
            processes=self._processes,
            source=source,
            output=output,
            stats=self._stats,
            segmented=True,
        ).run()

    async def _keep_bytes(self, chunk: bytes) -> None:
        try:
            await self._writes.run(self._upload.write, chunk)
        except UnavailableError:
            # The chunk was accepted; the part that it completed still has to be stored.
            await self._writes.with_retries(self._upload.write, b"")

    async def _kept(self, record: SegmentRecord, data: bytes) -> None:
        """Send a finished segment, the header before the first."""
        if not self._records:
            data = self._attempt.init_data + data
        self._records.append(record)
        for start in range(0, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            self._stats.bytes_sent += len(chunk)
            await self._events.put(OutputChunk(chunk))

    async def _finish(self, film: Film) -> Summary:
        target = Target(film, self._settings.model, self._settings.output)

        async def require_film() -> None:
            await self._writes.with_retries(self._library.films.require, film.id, film.uid)

        manifest = await commit(self._library, self._writes, target, self._records, require_film)
        await self._events.put(self._stats.progress())
        return Summary(
            frames=manifest.frames,
            duration=manifest.duration,
            bytes_received=self._stats.bytes_received,
            bytes_sent=self._stats.bytes_sent,
            film_digest=film.digest,
            stage_seconds=self._stats.seconds,
            warnings=manifest.warnings,
            film=film.id,
            rendition=target.rendition,
        )

    async def _drop(self) -> None:
        """Remove everything; the sweep removes what cannot be removed now."""
        self._upload.cancel()
        await self._writes.ended()
        place, digest = self._place, self._settings.model.digest
        with suppress(ServiceError):
            for folder in (
                layout.rendition_folder(place.film, place.rendition),
                f"{layout.latents_folder(place.film, digest)}{place.attempt}/",
            ):
                await self._writes.run(delete_below, self._library.store, folder)
            await self._writes.run(self._upload.drop)


class _IngestSink(SegmentSink):
    """A segment sink that also sends all events to the caller."""

    def __init__(
        self,
        settings: OutputSettings,
        stats: Stats,
        attempt: RenditionWriter,
        events: asyncio.Queue[Event],
        *,
        include_latents: bool,
    ) -> None:
        super().__init__(settings, stats, attempt, None)
        self._picture = settings
        self._events = events
        self._progress = stats.progress
        self._include_latents = include_latents
        self._opened = False

    @property
    def is_full(self) -> bool:
        """Whether the caller reads too slowly."""
        return self._events.full()

    async def open(self, film: FilmProcess, facts: FilmFacts, stages: asyncio.TaskGroup) -> None:
        """Send the film's facts, and start the output."""
        await self._events.put(FilmOpened(facts, output_size(facts, self._picture)))
        self._opened = True
        await super().open(film, facts, stages)

    async def write(self, batch: FrameBatch, passed: ModelOutput) -> None:
        """Write the next pictures, and send their latents to the caller."""
        if self._include_latents and len(batch.pts):
            await self._events.put(LatentsMade(batch.pts, passed.latents))
        await super().write(batch, passed)

    def tick(self) -> None:
        """Send the progress, unless the caller's queue is full."""
        if self._opened and not self._events.full():
            self._events.put_nowait(self._progress())


async def _always() -> None:
    """Do nothing: the film cannot have been deleted yet."""
