"""The works that run now: one a rendition, shared by everyone who wants it."""

import asyncio
from collections.abc import Callable

from service.inference import Inference
from service.library.verified_reads import film_deleted
from service.pipeline.limit import Room
from service.renditions.job import Work
from service.renditions.library_parts import LibraryParts, Target


class Interest:
    """Somebody's wish that a work goes on."""

    def __init__(self, work: Work, leave: Callable[[], None]) -> None:
        self.work = work
        self._leave = leave
        self._left = False

    def leave(self) -> None:
        """Stop wishing it; when nobody is left, the work stops. Safe to call again."""
        if not self._left:
            self._left = True
            self._leave()


class Works:
    """All works of this process; used on one event loop."""

    def __init__(self, library: LibraryParts, inference: Inference, room: Room) -> None:
        self.library = library
        self._inference = inference
        self._room = room
        self._shared: dict[tuple[str, str], _Shared] = {}
        """Those that can be joined, by film uid and rendition."""
        self._running: dict[asyncio.Task[None], Work] = {}
        """Those, and those that are being stopped."""

    @property
    def free_for_jobs(self) -> bool:
        """Whether a work may begin that nobody waits for."""
        return self._room.free_for_jobs

    def running(self, film_uid: str, rendition: str) -> Work | None:
        """Return the work on a rendition, if one runs here."""
        shared = self._shared.get((film_uid, rendition))
        return shared.work if shared is not None else None

    def join(self, target: Target) -> Interest:
        """Join the work on a rendition, or begin it; raises OverloadedError."""
        key = (target.film.uid, target.rendition)
        shared = self._shared.get(key)
        if shared is None or shared.work.board.fault is not None:
            self._room.enter()
            work = Work(self.library, self._inference, target)
            task = asyncio.ensure_future(work.run())
            self._running[task] = work
            shared = self._shared[key] = _Shared(work, task)
            task.add_done_callback(self._ended)
        shared.interests += 1
        return Interest(shared.work, lambda: self._leave(key, shared))

    def _leave(self, key: tuple[str, str], shared: "_Shared") -> None:
        shared.interests -= 1
        if not shared.interests and self._shared.get(key) is shared:
            del self._shared[key]
            shared.stop()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._room.leave()
        self._running.pop(task).over()
        for key, shared in list(self._shared.items()):
            if shared.task is task:
                del self._shared[key]

    def film_deleted(self, film_id: str) -> None:
        """End all works on a film that is gone; each removes what it still wrote."""
        for key, shared in list(self._shared.items()):
            if shared.work.target.film.id == film_id:
                shared.work.end_with(film_deleted(film_id))
                del self._shared[key]
                shared.stop()

    async def close(self) -> None:
        """Stop all works; their leases are given back, their segments stay."""
        for shared in self._shared.values():
            shared.stop()
        self._shared.clear()
        await asyncio.gather(*self._running, return_exceptions=True)


class _Shared:
    """A work and how many want it."""

    def __init__(self, work: Work, task: "asyncio.Task[None]") -> None:
        self.work = work
        self.task = task
        self.interests = 0

    def stop(self) -> None:
        """Stop the work, unless it is about to end by itself: what it tidies up is not cut."""
        if not self.work.board.ended:
            self.task.cancel()
