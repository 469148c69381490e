"""The job of one rendition: makes it, or follows the replica that does, until it is complete."""

import asyncio
from contextlib import suppress
from functools import partial

import structlog

from film.process.film_process import FilmProcesses
from film.segments import ResumeError
from service import metrics
from service.aio import run_to_completion
from service.errors import DataLossError, ServerSideError, ServiceError, UnavailableError
from service.inference import Inference
from service.library import layout
from service.library.leases import BEATS, Lease, LeaseWatch
from service.library.library import Library
from service.library.segment_records import RecordsReader, SegmentRecord, longest_chain
from service.pipeline.events import StageSeconds
from service.pipeline.pipeline import Pipeline
from service.pipeline.stats import Stats
from service.renditions.commit import commit
from service.renditions.job_state import JobState, end_of_film
from service.renditions.library_source import LibrarySource
from service.renditions.rendition_writer import Place, RenditionWriter
from service.renditions.segment_sink import SegmentSink
from service.renditions.target import Target
from service.renditions.writes import Writes
from service.retry import with_retries
from service.storage.objects import delete_below

log = structlog.get_logger(__name__)

FOLLOW_SECONDS = 1.0
"""How often a job of another replica is polled."""


class _LeaseLostError(Exception):
    """Another replica has taken over."""


class RenditionJob:
    """The job of one rendition; call `run` once, cancel it to stop. `state` has the progress."""

    def __init__(
        self,
        library: Library,
        inference: Inference,
        processes: FilmProcesses,
        target: Target,
    ) -> None:
        self.target = target
        self.state = JobState()
        self.looked = asyncio.Event()
        """Set once the state has the existing segments."""
        self._library = library
        self._inference = inference
        self._processes = processes
        self._writes = Writes(library.threads)
        self._records = RecordsReader(library.store, target.film.id, target.rendition)
        self._stats = Stats(target.model)
        self._stats_begin = 0
        self._earlier = StageSeconds()
        self._end_with: ServiceError | None = None
        self._wrote = False
        self.is_making = False
        """Whether this process holds the lease, and does not just follow another replica."""
        self._log = log.bind(film=target.film.id, rendition=target.rendition)

    @property
    def frames_decoded(self) -> int:
        """Frames read so far, by any replica."""
        return max(self.state.frames, self._stats_begin + self._stats.frames_decoded)

    @property
    def frames_reconstructed(self) -> int:
        """Frames reconstructed so far, by any replica."""
        return max(self.state.frames, self._stats_begin + self._stats.frames_reconstructed)

    @property
    def seconds(self) -> StageSeconds:
        """How long the stages were busy in this process."""
        return self._earlier + self._stats.seconds

    async def run(self) -> None:
        """Run until the rendition is complete or has failed; raises only CancelledError."""
        metrics.RENDITION_JOBS_RUNNING.inc()
        try:
            await self._run()
        except ServiceError as error:
            self.state.fail(error)
        except Exception:
            self._log.exception("unexpected error")
            self.state.fail(ServerSideError("the reconstruction failed; the log has the details"))
        finally:
            self.over()
            try:
                await run_to_completion(self._clean_up())
            finally:
                metrics.RENDITION_JOBS_RUNNING.dec()

    def end_with(self, error: ServiceError) -> None:
        """Set the error of the state for a cancellation."""
        self._end_with = error

    def over(self) -> None:
        """Fail the state, so that nothing waits for it any more."""
        self.state.fail(self._end_with or _stopped())  # No effect if it has ended.
        self.looked.set()

    async def _run(self) -> None:
        while not self.state.ended:
            lease = await self._take_lease()
            if lease is not None:
                try:
                    await self._run_with_lease(lease)
                except _LeaseLostError:
                    self._log.info("another replica has taken over", attempt=lease.attempt)

    # Following.

    async def _take_lease(self) -> Lease | None:
        """Follow the lease holder until the lease is free, then take it; None: the job ended."""
        leases = self._library.leases
        watch = LeaseWatch(leases.seconds)
        film, rendition = self.target.film.id, self.target.rendition
        while True:
            await with_retries(self._update_state)
            if self.state.ended:
                return None
            newest = await self._writes.with_retries(leases.newest, film, rendition)
            if watch.is_free(newest):
                self._wrote = True
                lease = await self._writes.with_retries(leases.take, film, rendition, newest)
                if lease is not None:
                    return lease
            await asyncio.sleep(FOLLOW_SECONDS)

    async def _update_state(self) -> None:
        """Update the state from the store; raises NotFoundError, UnavailableError."""
        library, film = self._library, self.target.film
        await self._require_film()
        manifest = await self._writes.run(library.renditions.find, film.id, self.target.rendition)
        records = await self._writes.run(self._records.look)
        self.state.extend(longest_chain(records, self.state.last))
        if manifest is not None:
            self.state.finish(manifest)
        elif len(longest_chain(records)) > len(self.state.segments):
            self.state.fail(segments_discarded())
        elif (last := self.state.last) is not None and last.fault is not None:
            self.state.fail(end_of_film(last))
        self.looked.set()

    async def _require_film(self) -> None:
        film = self.target.film
        await self._writes.run(self._library.films.require, film.id, film.uid)

    # Running with the lease.

    async def _run_with_lease(self, lease: Lease) -> None:
        """Make the rendition while renewing the lease; release the lease at the end."""
        self.is_making = True
        making = asyncio.ensure_future(self._make(lease.attempt))
        beating = asyncio.ensure_future(self._renew_lease(lease))
        try:
            await asyncio.wait({making, beating}, return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                await beating
            await making
        finally:
            self.is_making = False
            making.cancel()
            beating.cancel()
            await run_to_completion(self._release(lease, making, beating))

    async def _release(self, lease: Lease, *ending: "asyncio.Future[None]") -> None:
        await asyncio.wait(ending)
        for ended in ending:
            if not ended.cancelled():
                ended.exception()  # Mark as retrieved; `_run_with_lease` raises what counts.
        await self._writes.ended()
        with suppress(ServiceError):
            await self._writes.run(lease.release)

    async def _renew_lease(self, lease: Lease) -> None:
        """Renew a lease; raises once another replica has it, or the film is gone."""
        while True:
            await asyncio.sleep(self._library.leases.seconds / BEATS)
            try:
                if not await self._writes.run(lease.renew):
                    raise _LeaseLostError
                await self._require_film()
            except UnavailableError:
                # Nobody else can reach the store either, or finds the lease free in time.
                continue

    async def _make(self, attempt: str) -> None:
        await with_retries(self._update_state)
        if self.state.ended:
            return
        before = self.state.last
        model = self.target.model
        if before is not None:
            self._log.info("going on", segments=before.number, attempt=attempt)
            metrics.SEGMENTS.labels(model.name, str(model.version), "reused").inc(before.number)
        if before is None or not before.is_last:
            await self._make_segments(attempt, before)
        if (last := self.state.last) is not None and last.fault is not None:
            self.state.fail(end_of_film(last))
            return
        manifest = await commit(
            self._library, self._writes, self.target, self.state.segments, self._require_film
        )
        self.state.finish(manifest)

    async def _make_segments(self, attempt: str, before: SegmentRecord | None) -> None:
        library, target = self._library, self.target
        film, model = target.film, target.model
        latents = await self._writes.with_retries(library.latents.find, film.id, model.digest)
        self._earlier, self._stats = self.seconds, Stats(model)
        self._stats_begin = self.state.frames
        writer = RenditionWriter(
            library,
            self._writes,
            Place(film.id, target.rendition, attempt),
            model,
            before=before,
            keeps_latents=latents is None,
            may_go_on=partial(with_retries, self._require_film),
            kept=self._kept,
        )
        resume = before.resume if before is not None else None
        pipeline = Pipeline(
            model,
            target.output,
            inference=self._inference,
            processes=self._processes,
            source=LibrarySource(library.films.source(film), library.threads),
            output=SegmentSink(target.output, self._stats, writer, resume),
            stats=self._stats,
            segmented=True,
            resume=resume,
        )
        try:
            await pipeline.run()
        except ResumeError:
            await self._discard_segments()
        except DataLossError:
            last = self.state.last
            if last is None or last.fault is None:
                raise

    async def _kept(self, record: SegmentRecord, data: bytes) -> None:
        self.state.extend([record])

    async def _discard_segments(self) -> None:
        """Discard segments that this version of the service cannot resume after."""
        self._log.warning("segments are made again", segments=len(self.state.segments))
        keys = [record.key for record in self.state.segments]
        await self._writes.with_retries(self._library.store.delete, keys)
        raise segments_discarded()

    # Cleanup.

    async def _clean_up(self) -> None:
        """Remove late writes for a film that was deleted meanwhile."""
        await self._writes.ended()
        if not self._wrote:
            return
        film, digest = self.target.film, self.target.model.digest
        try:
            await self._require_film()
        except UnavailableError:
            return
        except ServiceError:
            for folder in (
                layout.rendition_folder(film.id, self.target.rendition),
                layout.latents_folder(film.id, digest),
            ):
                with suppress(ServiceError):
                    await self._writes.run(delete_below, self._library.store, folder)


def _stopped() -> ServiceError:
    return UnavailableError(
        "the reconstruction was stopped; ask again, and it continues from its last whole segment",
        reason="RECONSTRUCTION_STOPPED",
        retry_after=1.0,
    )


def segments_discarded() -> ServiceError:
    """Return the error for a caller who has segments that were discarded."""
    return UnavailableError(
        "the reconstruction was made again from an earlier point; ask again from its beginning",
        reason="RECONSTRUCTION_RESTARTED",
        retry_after=1.0,
    )
