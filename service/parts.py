"""The dependencies of the gRPC handlers, started in dependency order."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

import structlog

from film.limits import PictureLimits
from film.process.film_process import FilmProcesses
from film.process.picture_pool import PicturePool
from film.process.picture_protocol import PICTURE_MAIN
from film.process.protocol import CUBE_MAIN, FILM_MAIN
from film.process.spawner import Spawner, SpawnError
from film.spool import SpoolRoom
from service import metrics
from service.aio import background
from service.inference import Inference, Models
from service.inference.admission import Admission
from service.inference.connection import connect
from service.inference.local.model_loader import ModelLoader
from service.inference.local.triton import LocalTriton
from service.inference.local.wheel import LocalTritonError
from service.library.library import Library
from service.library.sweep import keep_swept
from service.library.upload_probe import FilmProbe
from service.limit import Limits
from service.renditions import JobRunner, Reconstructor, Registry
from service.search.engine import Search
from service.search.refresher import IndexRefresher
from service.settings import Settings
from service.storage.factory import StoreSettingsError, open_store
from service.storage.store_health import StoreHealth
from service.storage.threads import StorageThreads

log = structlog.get_logger(__name__)

_LOCAL_LOOK_SECONDS = 1.0


class StartError(Exception):
    """The service cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The film processes and the picture pool, which read and write films and pictures."""

    films: FilmProcesses
    pictures: PicturePool


@dataclass(frozen=True, slots=True)
class Parts:
    """The handlers' dependencies."""

    settings: Settings
    limits: Limits
    triton_address: str
    models: Models
    inference: Inference
    processes: Processes
    library: Library
    registry: Registry
    jobs: JobRunner
    spools: SpoolRoom
    reconstructor: Reconstructor
    search: Search


async def start_processes(settings: Settings, stack: AsyncExitStack) -> Processes:
    """Start what forks film and picture processes, before any thread. Raises StartError."""
    spawner = await _start_spawner(stack)
    return Processes(
        FilmProcesses(spawner, settings.film_limits),
        await _start_pictures(settings, spawner, stack),
    )


async def start_parts(
    settings: Settings,
    processes: Processes,
    stack: AsyncExitStack,
    *,
    on_models: Callable[[bool], None],
    on_store: Callable[[bool], None],
) -> Parts:
    """Start everything else; `stack` stops it in reverse order. Raises StartError.

    Args:
        settings: the service's.
        processes: where films and pictures are read.
        stack: stops everything when it is closed.
        on_models: called with whether a model is ready, whenever that changes.
        on_store: called with whether the library's store is reachable, whenever that changes.
    """
    limits = Limits.of(settings)
    address, models, inference = await _start_inference(settings, on_models, stack)
    library = await _open_library(settings, processes, on_store, stack)
    registry = _start_registry(library, inference, processes, limits, stack)
    jobs = JobRunner(registry, models, library.jobs)
    await stack.enter_async_context(background(jobs.run()))
    spools = SpoolRoom(settings.spool_directory, settings.spool_total_bytes)
    reconstructor = Reconstructor(
        inference,
        processes.films,
        library,
        spools,
        limits.films,
        film_bytes=settings.spool_film_bytes,
        idle_seconds=settings.idle_seconds,
    )
    search = await _start_search(settings, models, library, stack)
    return Parts(
        settings,
        limits,
        address,
        models,
        inference,
        processes,
        library,
        registry,
        jobs,
        spools,
        reconstructor,
        search,
    )


async def _start_spawner(stack: AsyncExitStack) -> Spawner:
    """Start the spawner, which forks the sandboxed processes."""
    spawner = Spawner(
        [FILM_MAIN, CUBE_MAIN, PICTURE_MAIN],
        on_lost=lambda: log.error("the fork server died; started again"),
    )
    stack.push_async_callback(spawner.close)
    try:
        protection = await spawner.start()
    except SpawnError as error:
        raise StartError(f"{error}; without it no film and no picture can be read") from None
    log.info(
        "films and pictures are read in processes of their own",
        seccomp=protection.seccomp,
        landlock=protection.landlock,
    )
    if protection.missing:
        log.warning("those processes keep rights that they need not", lacking=protection.missing)
    return spawner


async def _start_pictures(
    settings: Settings, spawner: Spawner, stack: AsyncExitStack
) -> PicturePool:
    """Start the processes that read and write single pictures."""
    pool = PicturePool(
        spawner,
        # With only one, a slow picture would block all others.
        processes=settings.picture_processes or max(2, os.cpu_count() or 1),
        limits=PictureLimits(
            settings.picture_pixels, settings.picture_seconds, settings.picture_memory_bytes
        ),
        max_waiting=settings.max_pictures_waiting,
        on_replaced=metrics.PICTURE_PROCESSES_REPLACED.inc,
    )
    metrics.PICTURES_WAITING.set_function(lambda: pool.waiting)
    stack.push_async_callback(pool.close)
    try:
        await pool.start()
    except SpawnError as error:
        raise StartError(f"{error}; without it no picture can be read") from None
    return pool


async def _start_inference(
    settings: Settings, on_models: Callable[[bool], None], stack: AsyncExitStack
) -> tuple[str, Models, Inference]:
    """Connect to Triton (a local one unless another is set), and poll its models."""
    local = None if settings.triton_address else await _start_triton(settings, stack)
    address = local.address if local is not None else settings.triton_address
    triton = connect(address)
    stack.push_async_callback(triton.close)
    models = Models(triton, default_model=settings.default_model)
    admission = Admission(settings.max_frames_in_flight, max_wait_seconds=settings.max_wait_seconds)
    metrics.FRAMES_IN_FLIGHT.set_function(lambda: admission.in_flight)
    metrics.FRAMES_WAITING.set_function(lambda: admission.waiting)

    def models_changed() -> None:
        on_models(models.ready)
        _show_models(models)

    models.subscribe(models_changed)
    await models.refresh()
    await stack.enter_async_context(background(models.poll(settings.models_poll_seconds)))
    if local is not None:
        loader = ModelLoader(triton, models, settings.model_repositories)

        def restarted() -> None:
            loader.forget()
            models.poll_soon()

        for task in (
            loader.keep_loaded(_LOCAL_LOOK_SECONDS),
            local.keep_alive(on_end=models.mark_unreachable, on_start=restarted),
        ):
            await stack.enter_async_context(background(task))
    inference = Inference(
        triton,
        admission,
        on_unavailable=models.poll_soon,
        on_process_lost=local.restart if local is not None else lambda: None,
    )
    return address, models, inference


async def _start_triton(settings: Settings, stack: AsyncExitStack) -> LocalTriton:
    try:
        local = LocalTriton(settings.model_repositories)
        stack.push_async_callback(local.stop)
        await local.start()
    except (LocalTritonError, OSError) as error:
        raise StartError(str(error)) from None
    return local


def _show_models(models: Models) -> None:
    metrics.TRITON_UP.set(models.reachable)
    metrics.MODEL_VERSION_READY.clear()
    for model in models.list():
        for version in model.versions:
            metrics.MODEL_VERSION_READY.labels(
                version.name, str(version.version), version.digest, version.recipe
            ).set(1)


async def _open_library(
    settings: Settings,
    processes: Processes,
    on_store: Callable[[bool], None],
    stack: AsyncExitStack,
) -> Library:
    """Open the store, monitor it, and sweep it periodically.

    If it is unreachable, only the library is unavailable.
    """
    try:
        store = open_store(settings)
    except StoreSettingsError as error:
        raise StartError(str(error)) from None
    threads = StorageThreads(settings.storage_threads)
    stack.callback(threads.close)
    store_health = StoreHealth(store, on_store)
    # Before the first call, which would otherwise find no bucket.
    await store_health.look()
    await stack.enter_async_context(background(store_health.watch()))
    older_than = timedelta(hours=settings.upload_hours)
    await stack.enter_async_context(background(keep_swept(store, threads, older_than)))
    return Library.of(
        store,
        threads,
        FilmProbe(processes.films),
        film_bytes=settings.spool_film_bytes,
        lease_seconds=settings.lease_seconds,
    )


def _start_registry(
    library: Library,
    inference: Inference,
    processes: Processes,
    limits: Limits,
    stack: AsyncExitStack,
) -> Registry:
    """Return the job registry for the library's films; jobs on deleted films are stopped."""
    registry = Registry(library, inference, processes.films, limits.films)
    stack.push_async_callback(registry.close)
    loop = asyncio.get_running_loop()

    def film_deleted(film_id: str, _: str) -> None:
        loop.call_soon_threadsafe(registry.film_deleted, film_id)

    library.deletion.on_deleted(film_deleted)
    return registry


async def _start_search(
    settings: Settings, models: Models, library: Library, stack: AsyncExitStack
) -> Search:
    """Maintain search indexes of the library's latents, and return the search engine."""
    indexes = IndexRefresher(models, library.films, library.latents, library.threads)
    library.latents.on_committed(indexes.notice)
    library.deletion.on_deleted(indexes.forget)
    await stack.enter_async_context(background(indexes.keep()))
    search = Search(
        library.films,
        library.latents,
        library.threads,
        indexes,
        duplicate_searches=settings.max_duplicate_searches,
    )
    stack.callback(search.close)
    return search
