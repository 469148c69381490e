"""Runs started reconstructions: takes queued jobs that no replica runs."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from service import metrics
from service.errors import (
    NotFoundError,
    OverloadedError,
    ServerSideError,
    ServiceError,
    UnavailableError,
)
from service.inference import Models, ModelVersion
from service.library.job_records import Job, JobEnd, JobName, Jobs
from service.library.leases import LeaseWatch
from service.library.verified_reads import DamagedError
from service.renditions.registry import Registry
from service.renditions.target import Target

log = structlog.get_logger(__name__)

CHECK_SECONDS = 2.0
"""How often the store is polled for jobs."""
CANCEL_SECONDS = 1.0
"""How often a running job is checked for cancellation."""
MODEL_SECONDS = 60.0
"""How long a job waits for a model that is not in Triton."""
_LONGEST_PAUSE_SECONDS = 60.0
_FAULTS = 3
"""Attempts of a job that fails with a server-side error (the model failed)."""


@dataclass(slots=True)
class _Queued:
    """A job that this process does not run."""

    job: Job
    watch: LeaseWatch
    """Watches another replica's lease."""
    pauses: int = 0
    faults: int = 0
    """Server-side errors so far."""
    not_before: float = 0.0
    model_missing_since: float | None = None


@dataclass(slots=True)
class _Known:
    """The jobs that have not ended."""

    queued: dict[JobName, _Queued] = field(default_factory=dict)
    running: dict[JobName, "asyncio.Task[None]"] = field(default_factory=dict)


class JobRunner:
    """Runs jobs within the limit; for one event loop."""

    def __init__(self, registry: Registry, models: Models, jobs: Jobs) -> None:
        self._registry = registry
        self._models = models
        self._jobs = jobs
        self._threads = registry.library.threads
        self._known = _Known()
        self._wake = asyncio.Event()
        self._draining = asyncio.Event()

    @property
    def draining(self) -> asyncio.Event:
        """Set once the service starts no more jobs."""
        return self._draining

    def poll_soon(self) -> None:
        """Poll at once: there is a new job."""
        self._wake.set()

    async def run(self) -> None:
        """Run jobs; returns only when cancelled, and then stops them."""
        try:
            while True:
                try:
                    await self._poll()
                except (UnavailableError, OverloadedError) as error:
                    log.debug("jobs cannot be looked at", reason=error.reason)
                except Exception:
                    log.exception("unexpected error")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), CHECK_SECONDS)
                self._wake.clear()
        finally:
            running = list(self._known.running.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def drain(self) -> None:
        """Start no more jobs; return once running ones have stored their current segment."""
        self._draining.set()
        while self._known.running:
            await asyncio.wait(self._known.running.values())

    async def _poll(self) -> None:
        pending = await self._threads.run(lambda: list(self._jobs.pending()))
        known = self._known
        for gone in known.queued.keys() - set(pending):
            del known.queued[gone]
        for name in pending:
            if self._draining.is_set():
                break
            if name not in known.running and (queued := await self._queued(name)) is not None:
                await self._consider(queued)
        metrics.JOBS.labels("running").set(len(known.running))
        metrics.JOBS.labels("queued").set(len(set(pending) - known.running.keys()))

    async def _queued(self, name: JobName) -> _Queued | None:
        queued = self._known.queued.get(name)
        if queued is None:
            job = await self._threads.run(self._jobs.find, name)
            if job is None:
                await self._threads.run(self._jobs.settle, name)
                return None
            watch = LeaseWatch(self._registry.library.leases.seconds)
            queued = self._known.queued[name] = _Queued(job, watch)
        return queued

    async def _consider(self, queued: _Queued) -> None:
        """Start a job if it can run here now."""
        job = queued.job
        shared = self._registry.running(job.film_uid, job.rendition) is not None
        if not shared and not self._registry.free_for_jobs:
            return
        if time.monotonic() < queued.not_before:
            return
        if not shared:
            leases = self._registry.library.leases
            newest = await self._threads.run(leases.newest, job.film, job.rendition)
            if not queued.watch.is_free(newest):
                return
        if await self._threads.run(self._jobs.end_of, job.name) is not None:
            await self._threads.run(self._jobs.settle, job.name)
            return
        model = await self._model(queued)
        if model is not None:
            task = asyncio.ensure_future(self._run(queued, model))
            self._known.running[job.name] = task
            task.add_done_callback(lambda _: self._known.running.pop(job.name))

    async def _model(self, queued: _Queued) -> ModelVersion | None:
        """Return the job's model; None while it is not ready. Fails the job after a timeout."""
        try:
            model = self._models.resolve(digest=queued.job.model.digest)
        except ServiceError:
            if not self._models.reachable:
                queued.model_missing_since = None
                return None
            now = time.monotonic()
            if queued.model_missing_since is None:
                queued.model_missing_since = now
            if now - queued.model_missing_since >= MODEL_SECONDS:
                wanted = queued.job.model
                await self._end(
                    queued.job,
                    JobEnd.now(
                        "failed",
                        "MODEL_DIGEST_NOT_FOUND",
                        f"no model version that is ready has the digest {wanted.digest} "
                        f"(it was {wanted.name}/{wanted.version}); start another reconstruction",
                    ),
                )
            return None
        queued.model_missing_since = None
        return model

    async def _run(self, queued: _Queued, model: ModelVersion) -> None:
        job = queued.job
        try:
            await self._execute(job, model)
        except (UnavailableError, OverloadedError) as error:
            # A backend is unavailable, or the service is at its limit: the job stays queued.
            self._postpone(queued, error)
        except NotFoundError:
            with suppress(ServerSideError):
                await self._threads.run(self._jobs.forget, job.name)
        except ServiceError as error:
            queued.faults += 1
            own = isinstance(error, ServerSideError) and not isinstance(error, DamagedError)
            if own and queued.faults < _FAULTS:
                self._postpone(queued, error)
                return
            with suppress(ServerSideError):
                await self._end(job, JobEnd.now("failed", error.reason, error.message))
        except Exception:
            log.exception("unexpected error", film=job.film, job=job.id)
            queued.not_before = time.monotonic() + _LONGEST_PAUSE_SECONDS

    def _postpone(self, queued: _Queued, error: ServiceError) -> None:
        pause = min(_LONGEST_PAUSE_SECONDS, CHECK_SECONDS * 2**queued.pauses)
        queued.pauses += 1
        queued.not_before = time.monotonic() + pause
        job = queued.job
        log.info("job waits", film=job.film, job=job.id, reason=error.reason, seconds=pause)

    async def _execute(self, job: Job, model: ModelVersion) -> None:
        library = self._registry.library
        film = await self._threads.run(library.films.get, job.film)
        job_reference = self._registry.join(Target(film, model, job.settings))
        rendition_job, state = job_reference.job, job_reference.job.state
        log.info("job runs", film=job.film, job=job.id)
        try:
            kept_at_drain: int | None = None
            while not state.ended:
                await state.changed(CANCEL_SECONDS)
                if await self._threads.run(self._jobs.end_of, job.name) is not None:
                    return  # Cancelled.
                if self._draining.is_set():
                    if kept_at_drain is None:
                        kept_at_drain = len(state.segments)
                    if not rendition_job.is_making or len(state.segments) > kept_at_drain:
                        return
            if state.fault is not None:
                raise state.fault
            await self._end(job, JobEnd.now("succeeded"))
        finally:
            job_reference.leave()

    async def _end(self, job: Job, end: JobEnd) -> None:
        ended = await self._threads.run(self._jobs.end, job.name, end)
        self._known.queued.pop(job.name, None)
        metrics.JOBS_ENDED.labels(ended.state).inc()
        log.info("job ended", film=job.film, job=job.id, state=ended.state, reason=ended.reason)
