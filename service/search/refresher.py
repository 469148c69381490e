"""Keeps the indexes in sync with the library: adds new films, drops deleted ones.

An index is a cache of the store. Every few seconds the store is polled for the films with latents
of each ready model; this process's own changes are applied at once.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import faiss
import structlog

from service import metrics
from service.errors import ServiceError
from service.inference import Models, ModelVersion
from service.library.films import Films
from service.library.latents import Latents
from service.library.verified_reads import DamagedError
from service.search.index import EXACT_ROWS, RowIndex
from service.storage.threads import StorageThreads

log = structlog.get_logger(__name__)

_KEPT_SECONDS = 600.0
"""How long an index is kept after its model stopped being ready: Triton may only be restarting."""
_DAMAGED_SECONDS = 300.0
"""Retry delay for a film whose stored rows are damaged."""

Result = TypeVar("Result")


class IndexRefresher:
    """The indexes of all ready models, by digest."""

    def __init__(
        self,
        models: Models,
        films: Films,
        latents: Latents,
        threads: StorageThreads,
        *,
        poll_seconds: float = 3.0,
        exact_rows: int = EXACT_ROWS,
    ) -> None:
        self._models = models
        self._films = films
        self._latents = latents
        self._threads = threads
        self._poll_seconds = poll_seconds
        self._exact_rows = exact_rows
        self._indexes: dict[str, RowIndex] = {}
        self._last_ready: dict[str, float] = {}
        self._changed: deque[tuple[str, str]] = deque()
        self._damaged: dict[tuple[str, str], float] = {}
        self._training: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        # One thread changes indexes, the other trains them meanwhile.
        self._changing = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._trainer = ThreadPoolExecutor(1, "train-index", initializer=_on_half_the_cores)
        self.library_films = 0
        """Number of films in the library at the last poll."""

    def get(self, digest: str) -> RowIndex:
        """Return a model's index; a missing one is created, and filled in the background."""
        self._last_ready[digest] = time.monotonic()
        if digest not in self._indexes:
            self._indexes[digest] = RowIndex(exact_rows=self._exact_rows)
            self._wake.set()
        return self._indexes[digest]

    def notice(self, film: str, digest: str) -> None:
        """Index a film's new latents of a model at once. Thread-safe."""
        self._changed.append((film, digest))
        self._wake_up()

    def forget(self, film: str, uid: str) -> None:
        """Drop a deleted film at once. Thread-safe."""
        for index in list(self._indexes.values()):
            index.hide(film, uid)
        self._wake_up()

    async def keep(self) -> None:
        """Keep the indexes in sync with the library until cancelled."""
        self._loop = asyncio.get_running_loop()
        answers = True
        try:
            while True:
                self._wake.clear()
                try:
                    await self._poll()
                    answers = True
                except ServiceError as error:
                    if answers:
                        log.warning("the indexes wait for the library's store", error=error.message)
                    answers = False
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._poll_seconds)
        finally:
            self._stopped = True
            self._changing.shutdown(wait=False, cancel_futures=True)
            self._trainer.shutdown(wait=False, cancel_futures=True)

    async def _poll(self) -> None:
        await self._add_changed()
        for version in self._wanted():
            index = self.get(version.digest)
            catalog = {
                film async for film in self._threads.iterate(self._latents.catalog(version.digest))
            }
            for film in index.films.keys() - catalog:
                index.hide(film)
            for film in sorted(catalog - index.films.keys()):
                await self._add_changed()
                await self._add(film, version.digest)
            await self._run(index.compact)
            labels = version.name, str(version.version)
            metrics.INDEX_ROWS.labels(*labels).set(len(index))
            metrics.INDEX_FILMS.labels(*labels).set(len(index.films))
        self.library_films = await self._threads.run(lambda: sum(1 for _ in self._films.ids()))

    def _wanted(self) -> list[ModelVersion]:
        """Return the ready versions, one for each digest, and drop other indexes."""
        versions = {
            version.digest: version for model in self._models.list() for version in model.versions
        }
        if versions:
            self._last_ready.update(dict.fromkeys(versions, time.monotonic()))
        else:
            # Triton is gone, and is expected back.
            self._last_ready = dict.fromkeys(self._indexes, time.monotonic())
        for digest in list(self._indexes):
            if time.monotonic() - self._last_ready[digest] > _KEPT_SECONDS:
                del self._indexes[digest]
        return list(versions.values())

    async def _add_changed(self) -> None:
        while self._changed:
            film, digest = self._changed.popleft()
            if digest in self._indexes:
                await self._add(film, digest)

    async def _add(self, film: str, digest: str) -> None:
        index = self._indexes[digest]
        if self._damaged.get((film, digest), 0.0) > time.monotonic():
            return
        while index.is_full and self._training:
            await asyncio.wait(self._training)
        try:
            manifest = await self._threads.run(self._latents.find, film, digest)
            if manifest is None or index.films.get(film) == manifest.film_uid:
                return
            rows = await self._threads.run(self._latents.index_rows, manifest)
            # Deleted meanwhile: do not add it again.
            if not await self._threads.run(self._films.exists, film, manifest.film_uid):
                return
        except DamagedError as error:
            self._damaged[film, digest] = time.monotonic() + _DAMAGED_SECONDS
            log.warning("a film cannot be indexed", film=film, error=error.message)
            return
        await self._run(index.add, film, manifest.film_uid, rows)
        if await self._run(index.move_rows):
            task = asyncio.create_task(self._train(index))
            self._training.add(task)
            task.add_done_callback(self._training.discard)

    async def _train(self, index: RowIndex) -> None:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._trainer, index.train, lambda: self._stopped)
        except Exception:
            # The current index stays in use.
            log.exception("an index could not be trained", rows=len(index))
            return
        seconds = time.monotonic() - began
        metrics.INDEX_BUILD_SECONDS.observe(seconds)
        log.info("index trained", rows=len(index), seconds=round(seconds, 1))

    async def _run(self, function: Callable[..., Result], *arguments: object) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._changing, function, *arguments)

    def _wake_up(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the service is shutting down
                self._loop.call_soon_threadsafe(self._wake.set)


def _on_half_the_cores() -> None:
    faiss.omp_set_num_threads(max(1, (os.cpu_count() or 1) // 2))
