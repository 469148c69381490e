"""The registry of running jobs: one for each rendition, shared by all callers."""

import asyncio
from collections.abc import Callable

from film.process.film_process import FilmProcesses
from service.inference import Inference
from service.library.films import film_deleted
from service.library.library import Library
from service.limit import Limit
from service.renditions.job import RenditionJob
from service.renditions.target import Target


class JobReference:
    """A reference to a job, which runs as long as there is one."""

    def __init__(self, job: RenditionJob, leave: Callable[[], None]) -> None:
        self.job = job
        self._leave = leave
        self._left = False

    def leave(self) -> None:
        """Release the reference; the last release stops the job. Idempotent."""
        if not self._left:
            self._left = True
            self._leave()


class Registry:
    """All rendition jobs of this process; for one event loop."""

    def __init__(
        self,
        library: Library,
        inference: Inference,
        processes: FilmProcesses,
        limit: Limit,
    ) -> None:
        self.library = library
        self._inference = inference
        self._processes = processes
        self._limit = limit
        self._shared: dict[tuple[str, str], _Shared] = {}
        """Jobs that can be joined, by film uid and rendition."""
        self._running: dict[asyncio.Task[None], RenditionJob] = {}
        """All jobs, including those being stopped."""

    @property
    def free_for_jobs(self) -> bool:
        """Whether a background job may start, leaving a place for callers."""
        return self._limit.taken < max(1, self._limit.places - 1)

    def running(self, film_uid: str, rendition: str) -> RenditionJob | None:
        """Return the running job of a rendition, if any."""
        shared = self._shared.get((film_uid, rendition))
        return shared.job if shared is not None else None

    def join(self, target: Target) -> JobReference:
        """Join or start the job of a rendition; raises OverloadedError."""
        key = (target.film.uid, target.rendition)
        shared = self._shared.get(key)
        if shared is None or shared.job.state.fault is not None:
            self._limit.enter()
            job = RenditionJob(self.library, self._inference, self._processes, target)
            task = asyncio.ensure_future(job.run())
            self._running[task] = job
            shared = self._shared[key] = _Shared(job, task)
            task.add_done_callback(self._ended)
        shared.participants += 1
        return JobReference(shared.job, lambda: self._leave(key, shared))

    def _leave(self, key: tuple[str, str], shared: "_Shared") -> None:
        shared.participants -= 1
        if not shared.participants and self._shared.get(key) is shared:
            del self._shared[key]
            shared.stop()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._limit.leave()
        self._running.pop(task).over()
        for key, shared in list(self._shared.items()):
            if shared.task is task:
                del self._shared[key]

    def film_deleted(self, film_id: str) -> None:
        """Stop all jobs on a deleted film; each removes its late writes."""
        for key, shared in list(self._shared.items()):
            if shared.job.target.film.id == film_id:
                shared.job.end_with(film_deleted(film_id))
                del self._shared[key]
                shared.stop()

    async def close(self) -> None:
        """Stop all jobs; leases are released, segments are kept."""
        for shared in self._shared.values():
            shared.stop()
        self._shared.clear()
        await asyncio.gather(*self._running, return_exceptions=True)


class _Shared:
    """A job and its reference count."""

    def __init__(self, job: RenditionJob, task: "asyncio.Task[None]") -> None:
        self.job = job
        self.task = task
        self.participants = 0

    def stop(self) -> None:
        """Stop the job unless it is ending by itself, so that its cleanup is not interrupted."""
        if not self.job.state.ended:
            self.task.cancel()
