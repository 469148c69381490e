"""Puts the service together, runs it, and takes it apart without losing a call."""

import asyncio
import ipaddress
import json
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import structlog
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from film.limits import PictureLimits
from film.process.film import FilmProcesses
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
from service.rpc.health import SERVICE_NAMES, Health
from service.rpc.interceptors import CallInterceptor, Gate
from service.rpc.pictures import Pictures
from service.rpc.services import Parts, add_services
from service.search.engine import Search
from service.search.refresher import IndexRefresher
from service.settings import Settings
from service.storage.factory import StoreSettingsError, open_store
from service.storage.store_health import StoreHealth
from service.storage.threads import StorageThreads

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""A raw 1080p frame is 6.2 MB, a raw 4K frame 24.9 MB."""

_LOCAL_LOOK_SECONDS = 1.0

_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    # Otherwise a second service could share the port, and the calls, without a word.
    ("grpc.so_reuseport", 0),
    # A caller that vanished is noticed within 40 s; callers may ask as often as every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
]


class StartError(Exception):
    """The service cannot start; the message says why and what to do."""


async def serve(settings: Settings) -> int:
    """Run the service until SIGTERM or SIGINT; return the exit code.

    The first signal drains: running calls finish within `drain_seconds`, new ones are UNAVAILABLE.
    A second one ends at once. Raises StartError.
    """
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)

    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(_start(settings, stack))
        stopping = asyncio.create_task(signals.get())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 128 + stopping.result()
        running = starting.result()
        received = await stopping
        log.info("draining", signal=received.name, calls=running.gate.running)
        return await _drain(running, signals, settings.drain_seconds)


@dataclass(frozen=True, slots=True)
class _Running:
    """What a service that runs consists of, as far as its end is concerned."""

    server: grpc.aio.Server
    gate: Gate
    health: Health
    jobs: JobRunner


async def _start(settings: Settings, stack: AsyncExitStack) -> _Running:
    """Start everything, each part upon those before it; `stack` ends it in the opposite order."""
    _warn_when_open(settings.host)
    metrics_port = _serve_metrics(settings)
    gate, health, limits = Gate(), Health(), Limits.of(settings)
    # Before gRPC has threads.
    spawner = await _start_spawner(stack)
    processes = FilmProcesses(spawner, settings.film_limits)
    pictures = await _start_pictures(settings, spawner, stack)
    server, port = _listen(settings, gate)

    inference = await _start_inference(settings, health, stack)
    library = await _open_library(settings, health, processes, stack)
    films = await _start_renditions(settings, inference, library, processes, limits, stack)
    search = await _start_search(settings, inference, library, stack)

    parts = Parts(
        settings,
        limits,
        inference.models,
        inference.client,
        library,
        films.registry,
        films.jobs,
        films.reconstructor,
        processes,
        films.spools,
        search,
        Pictures(pictures),
    )
    add_services(server, parts)
    _add_health_and_reflection(server, health)
    await server.start()
    stack.push_async_callback(server.stop, 0)

    addresses = {
        "grpc": f"{_bracketed(settings.host)}:{port}",
        "metrics": f"{_bracketed(settings.host)}:{metrics_port}",
        "triton": inference.address,
    }
    if settings.address_file is not None:
        _write_addresses(settings.address_file, addresses)
        stack.callback(settings.address_file.unlink, missing_ok=True)
    models = [model.name for model in inference.models.list()]
    log.info("serving", **addresses, models=models)
    return _Running(server, gate, health, films.jobs)


# The end.


async def _drain(running: _Running, signals: asyncio.Queue[signal.Signals], seconds: float) -> int:
    gate = running.gate
    running.health.drain()
    gate.closed = True
    emptied = asyncio.create_task(_emptied(running))
    again = asyncio.create_task(signals.get())
    done, _ = await asyncio.wait(
        {emptied, again}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
    )
    emptied.cancel()
    again.cancel()
    if gate.running:
        log.warning("ending calls that still run", calls=gate.running, told_again=again in done)
    # A moment for answers that are still on their way out; calls that go on are cancelled.
    await running.server.stop(0 if gate.running else 0.5)
    log.info("ended")
    return 128 + again.result() if again in done else 0


async def _emptied(running: _Running) -> None:
    await asyncio.gather(running.gate.emptied(), running.jobs.drain())


# Processes for films and pictures.


async def _start_spawner(stack: AsyncExitStack) -> Spawner:
    """Start what confined processes are forked from."""
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
        # With one alone, a slow picture would hold up all others.
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


# Triton and its models.


@dataclass(frozen=True, slots=True)
class _Inference:
    address: str
    """Triton's."""
    models: Models
    client: Inference


async def _start_inference(settings: Settings, health: Health, stack: AsyncExitStack) -> _Inference:
    """Connect to Triton, to one of our own where no other is set, and keep its models known."""
    local = None if settings.triton_address else await _start_triton(settings, stack)
    address = local.address if local is not None else settings.triton_address
    triton = connect(address)
    stack.push_async_callback(triton.close)
    models = Models(triton, default_model=settings.default_model)
    admission = Admission(settings.max_frames_in_flight, max_wait_seconds=settings.max_wait_seconds)
    metrics.FRAMES_IN_FLIGHT.set_function(lambda: admission.in_flight)
    metrics.FRAMES_WAITING.set_function(lambda: admission.waiting)

    def models_changed() -> None:
        health.set_models(models.ready)
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
    client = Inference(
        triton,
        admission,
        on_unavailable=models.poll_soon,
        on_process_lost=local.restart if local is not None else lambda: None,
    )
    return _Inference(address, models, client)


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


# The library, what is made of its films, and what finds them.


async def _open_library(
    settings: Settings, health: Health, processes: FilmProcesses, stack: AsyncExitStack
) -> Library:
    """Open the store, watch it and keep it swept.

    One that does not answer keeps nothing but the library away.
    """
    try:
        store = open_store(settings)
    except StoreSettingsError as error:
        raise StartError(str(error)) from None
    threads = StorageThreads(settings.storage_threads)
    stack.callback(threads.close)
    store_health = StoreHealth(store, health.set_store)
    # Before the first call, which would find no bucket yet.
    await store_health.look()
    await stack.enter_async_context(background(store_health.watch()))
    older_than = timedelta(hours=settings.upload_hours)
    await stack.enter_async_context(background(keep_swept(store, threads, older_than)))
    return Library.of(
        store,
        threads,
        FilmProbe(processes),
        film_bytes=settings.spool_film_bytes,
        lease_seconds=settings.lease_seconds,
    )


@dataclass(frozen=True, slots=True)
class _Renditions:
    spools: SpoolRoom
    registry: Registry
    jobs: JobRunner
    reconstructor: Reconstructor


async def _start_renditions(
    settings: Settings,
    inference: _Inference,
    library: Library,
    processes: FilmProcesses,
    limits: Limits,
    stack: AsyncExitStack,
) -> _Renditions:
    """Take up the reconstructions that nobody waits for, and be ready for those of callers."""
    registry = Registry(library, inference.client, processes, limits.films)
    stack.push_async_callback(registry.close)
    loop = asyncio.get_running_loop()

    def film_deleted(film_id: str, _: str) -> None:
        loop.call_soon_threadsafe(registry.film_deleted, film_id)

    library.deletion.on_deleted(film_deleted)
    jobs = JobRunner(registry, inference.models, library.jobs)
    await stack.enter_async_context(background(jobs.run()))
    spools = SpoolRoom(settings.spool_directory, settings.spool_total_bytes)
    reconstructor = Reconstructor(
        inference.client,
        processes,
        library,
        spools,
        limits.films,
        film_bytes=settings.spool_film_bytes,
        idle_seconds=settings.idle_seconds,
    )
    return _Renditions(spools, registry, jobs, reconstructor)


async def _start_search(
    settings: Settings, inference: _Inference, library: Library, stack: AsyncExitStack
) -> Search:
    """Keep indexes of the library's latents, and return what searches them."""
    indexes = IndexRefresher(inference.models, library.films, library.latents, library.threads)
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


# Health and reflection.


def _add_health_and_reflection(server: grpc.aio.Server, health: Health) -> None:
    health.add_to(server)
    names = (*filter(None, SERVICE_NAMES), "grpc.health.v1.Health", reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)


# Addresses.


def _listen(settings: Settings, gate: Gate) -> tuple[grpc.aio.Server, int]:
    """Return a server that has its port, and that port; it answers once it is started."""
    server = grpc.aio.server(interceptors=[CallInterceptor(gate)], options=_SERVER_OPTIONS)
    try:
        port = server.add_insecure_port(f"{_bracketed(settings.host)}:{settings.port}")
    except RuntimeError:
        raise StartError(
            f"cannot listen on {settings.host}:{settings.port}: the port is taken or the address "
            "is not this machine's; set REFILM_PORT (0 takes a free port) or REFILM_HOST"
        ) from None
    return server, port


def _serve_metrics(settings: Settings) -> int:
    try:
        http, _ = start_http_server(settings.metrics_port, addr=settings.host)
    except OSError as error:
        raise StartError(
            f"cannot serve metrics on {settings.host}:{settings.metrics_port} "
            f"({error.strerror}); set REFILM_METRICS_PORT (0 takes a free port)"
        ) from None
    return http.server_port


def _warn_when_open(host: str) -> None:
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        log.warning(
            "listening beyond this machine, without TLS and without authentication: put a proxy "
            "that has both in front, or set REFILM_HOST=127.0.0.1",
            host=host,
        )


def _write_addresses(path: Path, addresses: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps({**addresses, "pid": os.getpid()}) + "\n")
    temporary.replace(path)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
