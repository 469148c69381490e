"""Runs the reconstructions that callers stream, up to a limit."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable

from film.errors import SpoolFullError
from film.process.film_process import FilmProcesses
from film.spool import Spool, SpoolRoom
from service import metrics
from service.errors import OverloadedError
from service.inference import Inference
from service.library.library import Library
from service.library.upload_records import UploadSettings
from service.limit import Limit
from service.pipeline.errors import spool_error
from service.pipeline.events import Event
from service.pipeline.pipeline import Pipeline
from service.pipeline.source import ArrivingSource
from service.pipeline.stats import Stats
from service.pipeline.stream_sink import StreamSink
from service.renditions.ingest import Ingest
from service.renditions.reconstruction_settings import ReconstructionSettings

EVENTS_WAITING = 8
"""Maximum number of events queued for the caller, at most 1 MiB each."""


class Reconstruction:
    """A running reconstruction; ends when its events are read, or when it is cancelled."""

    def __init__(self, task: "asyncio.Task[None]", events: "asyncio.Queue[Event]") -> None:
        self._task = task
        self._events = events

    def cancel(self) -> None:
        """Stop everything at once; may be called at any time."""
        self._task.cancel()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events in order; then raise the ServiceError, if any."""
        try:
            while not (self._task.done() and self._events.empty()):
                event = asyncio.ensure_future(self._events.get())
                try:
                    await asyncio.wait({event, self._task}, return_when="FIRST_COMPLETED")
                finally:
                    if not event.done():
                        event.cancel()
                if event.done() and not event.cancelled():
                    yield event.result()
            await self._task
        finally:
            self.cancel()
            await asyncio.wait({self._task})


class Reconstructor:
    """Starts reconstructions, up to a limit."""

    def __init__(
        self,
        inference: Inference,
        processes: FilmProcesses,
        library: Library,
        spools: SpoolRoom,
        limit: Limit,
        *,
        film_bytes: int,
        idle_seconds: float,
    ) -> None:
        """`library` stores films if callers request it."""
        self._inference = inference
        self._processes = processes
        self._library = library
        self._spools = spools
        self._limit = limit
        self._film_bytes = film_bytes
        self._idle_seconds = idle_seconds
        metrics.SPOOL_BYTES.set_function(lambda: spools.used)

    def start(
        self, settings: ReconstructionSettings, chunks: AsyncIterable[bytes]
    ) -> Reconstruction:
        """Start to reconstruct the film in `chunks`.

        Raises:
            OverloadedError: Too many reconstructions are running, or the film's announced size is
                over the limit.
        """
        if settings.film_bytes is not None and settings.film_bytes > self._film_bytes:
            raise OverloadedError(
                f"the film's {settings.film_bytes} bytes are more than the {self._film_bytes} "
                "that one film may have here",
                reason="FILM_TOO_LARGE",
            )
        self._limit.enter()
        metrics.RECONSTRUCTIONS_RUNNING.inc()
        events: asyncio.Queue[Event] = asyncio.Queue(EVENTS_WAITING)
        task = asyncio.ensure_future(self._run(settings, chunks, events))
        task.add_done_callback(self._ended)
        return Reconstruction(task, events)

    async def _run(
        self,
        settings: ReconstructionSettings,
        chunks: AsyncIterable[bytes],
        events: "asyncio.Queue[Event]",
    ) -> None:
        if settings.store is not None:
            await self._run_stored(settings, settings.store, chunks, events)
            return
        spool = self._new_spool()
        stats = Stats(settings.model)
        output = StreamSink(
            settings.output, stats, events, include_latents=settings.include_latents
        )
        await Pipeline(
            settings.model,
            settings.output,
            inference=self._inference,
            processes=self._processes,
            source=ArrivingSource(
                spool,
                chunks,
                stats,
                announced=settings.film_bytes,
                idle_seconds=self._idle_seconds,
            ),
            output=output,
            stats=stats,
        ).run()
        await events.put(stats.summary(spool.digest(), output.warnings))

    async def _run_stored(
        self,
        settings: ReconstructionSettings,
        store: UploadSettings,
        chunks: AsyncIterable[bytes],
        events: "asyncio.Queue[Event]",
    ) -> None:
        spool = self._new_spool()
        try:
            upload = await self._library.threads.run(self._library.uploads.open, store)
        except BaseException:
            spool.close()
            raise
        await Ingest(
            self._library,
            self._inference,
            self._processes,
            upload,
            settings,
            spool,
            chunks,
            events,
            idle_seconds=self._idle_seconds,
        ).run()

    def _new_spool(self) -> Spool:
        try:
            return Spool(self._spools, self._film_bytes)
        except SpoolFullError as error:
            raise spool_error(error) from None

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._limit.leave()
        metrics.RECONSTRUCTIONS_RUNNING.dec()
