"""The jobs that run now: one a rendition, shared by everyone who wants it."""

import asyncio
from collections.abc import Callable

from film.process.film import FilmProcesses
from service.inference import Inference
from service.library.films import film_deleted
from service.limit import Limit
from service.renditions.job import RenditionJob
from service.renditions.library_parts import LibraryParts, Target


class Participation:
    """Somebody's wish that a job goes on."""

    def __init__(self, job: RenditionJob, leave: Callable[[], None]) -> None:
        self.job = job
        self._leave = leave
        self._left = False

    def leave(self) -> None:
        """Stop wishing it; when nobody is left, the job stops. Safe to call again."""
        if not self._left:
            self._left = True
            self._leave()


class Registry:
    """All rendition jobs of this process; used on one event loop."""

    def __init__(
        self,
        library: LibraryParts,
        inference: Inference,
        processes: FilmProcesses,
        limit: Limit,
    ) -> None:
        self.library = library
        self._inference = inference
        self._processes = processes
        self._limit = limit
        self._shared: dict[tuple[str, str], _Shared] = {}
        """Those that can be joined, by film uid and rendition."""
        self._running: dict[asyncio.Task[None], RenditionJob] = {}
        """Those, and those that are being stopped."""

    @property
    def free_for_jobs(self) -> bool:
        """Whether a job may begin that nobody waits for: it leaves a place to those who wait."""
        return self._limit.taken < max(1, self._limit.places - 1)

    def running(self, film_uid: str, rendition: str) -> RenditionJob | None:
        """Return the job that makes a rendition, if one runs here."""
        shared = self._shared.get((film_uid, rendition))
        return shared.job if shared is not None else None

    def join(self, target: Target) -> Participation:
        """Join the job on a rendition, or begin it; raises OverloadedError."""
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
        return Participation(shared.job, lambda: self._leave(key, shared))

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
        """End all jobs on a film that is gone; each removes what it still wrote."""
        for key, shared in list(self._shared.items()):
            if shared.job.target.film.id == film_id:
                shared.job.end_with(film_deleted(film_id))
                del self._shared[key]
                shared.stop()

    async def close(self) -> None:
        """Stop all jobs; their leases are given back, their segments stay."""
        for shared in self._shared.values():
            shared.stop()
        self._shared.clear()
        await asyncio.gather(*self._running, return_exceptions=True)


class _Shared:
    """A job and how many want it."""

    def __init__(self, job: RenditionJob, task: "asyncio.Task[None]") -> None:
        self.job = job
        self.task = task
        self.participants = 0

    def stop(self) -> None:
        """Stop the job, unless it is about to end by itself: what it tidies up is not cut."""
        if not self.job.state.ended:
            self.task.cancel()
