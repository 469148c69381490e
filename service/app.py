"""Puts the service together, runs it, and takes it apart without losing a call."""

import asyncio
import ipaddress
import json
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import grpc
import structlog
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server
from refilm.v1 import autoencoder_pb2_grpc, latents_pb2_grpc, library_pb2_grpc

from film.spool import SpoolRoom
from service import metrics
from service.inference import Inference, Models
from service.inference.admission import Admission
from service.inference.connection import connect
from service.inference.local.model_loader import ModelLoader
from service.inference.local.triton import LocalTriton
from service.inference.local.wheel import LocalTritonError
from service.library.job_records import Jobs
from service.open_library import Library
from service.renditions import Ingest, JobRunner, Limit, Reconstructor, Registry
from service.rpc.autoencoder_service import AutoencoderService
from service.rpc.health import SERVICE_NAMES, Health
from service.rpc.interceptors import CallInterceptor, Gate
from service.rpc.latents_service import LatentsService
from service.rpc.match_clip import MatchClip
from service.rpc.reconstruct_video import ReconstructVideo
from service.rpc.reconstructions import ReconstructionCalls
from service.rpc.search_frames import SearchCalls
from service.search.engine import Search
from service.search.match import ClipMatcher
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


class _Running(NamedTuple):
    """What a service that runs consists of, as far as its end is concerned."""

    server: grpc.aio.Server
    gate: Gate
    health: Health
    jobs: JobRunner


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


async def _start(settings: Settings, stack: AsyncExitStack) -> _Running:
    _warn_when_open(settings.host)
    metrics_port = _start_metrics(settings)
    gate, health = Gate(), Health()
    server = grpc.aio.server(interceptors=[CallInterceptor(gate)], options=_SERVER_OPTIONS)
    try:
        port = server.add_insecure_port(f"{_bracketed(settings.host)}:{settings.port}")
    except RuntimeError:
        raise StartError(
            f"cannot listen on {settings.host}:{settings.port}: the port is taken or the address "
            "is not this machine's; set REFILM_PORT (0 takes a free port) or REFILM_HOST"
        ) from None

    triton_address = settings.triton_address
    local: LocalTriton | None = None
    if not triton_address:
        try:
            local = LocalTriton(settings.model_repositories)
            stack.push_async_callback(local.stop)
            await local.start()
        except (LocalTritonError, OSError) as error:
            raise StartError(str(error)) from None
        triton_address = local.address

    triton = connect(triton_address)
    stack.push_async_callback(triton.close)
    models = Models(triton, default_model=settings.default_model)
    admission = Admission(settings.max_frames_in_flight, max_wait_seconds=settings.max_wait_seconds)
    inference = Inference(
        triton,
        admission,
        on_unavailable=models.poll_soon,
        on_process_lost=local.restart if local is not None else lambda: None,
    )
    metrics.FRAMES_IN_FLIGHT.set_function(lambda: admission.in_flight)
    metrics.FRAMES_WAITING.set_function(lambda: admission.waiting)

    def models_changed() -> None:
        health.set_models(models.ready)
        metrics.TRITON_UP.set(models.reachable)
        metrics.MODEL_VERSION_READY.clear()
        for model in models.list():
            for version in model.versions:
                metrics.MODEL_VERSION_READY.labels(
                    version.name, str(version.version), version.digest, version.recipe
                ).set(1)

    models.subscribe(models_changed)
    await models.refresh()
    await stack.enter_async_context(_background(models.poll(settings.models_poll_seconds)))
    if local is not None:
        model_loader = ModelLoader(triton, models, settings.model_repositories)

        def restarted() -> None:
            model_loader.forget()
            models.poll_soon()

        await stack.enter_async_context(_background(model_loader.keep_loaded(_LOCAL_LOOK_SECONDS)))
        await stack.enter_async_context(
            _background(local.keep_alive(on_end=models.mark_unreachable, on_start=restarted))
        )

    library = await _open_library(settings, stack, health)

    limit = Limit(settings.max_reconstructions)
    parts = library.parts(settings)
    registry = Registry(parts, inference, limit)
    stack.push_async_callback(registry.close)
    loop = asyncio.get_running_loop()

    def film_deleted(film_id: str, _: str) -> None:
        loop.call_soon_threadsafe(registry.film_deleted, film_id)

    library.deletion.on_deleted(film_deleted)
    jobs = Jobs(library.store)
    job_runner = JobRunner(registry, models, jobs)
    await stack.enter_async_context(_background(job_runner.run()))
    spools = SpoolRoom(settings.spool_directory, settings.spool_total_bytes)
    reconstructor = Reconstructor(
        inference,
        spools,
        limit,
        film_bytes=settings.spool_film_bytes,
        idle_seconds=settings.idle_seconds,
        ingest=Ingest(parts, library.uploads, inference),
    )
    threads = stack.enter_context(
        ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="frames")
    )
    autoencoder_pb2_grpc.add_AutoencoderServiceServicer_to_server(
        AutoencoderService(
            models,
            inference,
            ReconstructVideo(models, reconstructor, registry, idle_seconds=settings.idle_seconds),
            threads,
            max_calls_waiting=settings.max_calls_waiting,
        ),
        server,
    )
    search = await _open_search(library, models, stack)
    latents_pb2_grpc.add_LatentsServiceServicer_to_server(
        LatentsService(
            models,
            inference,
            library.films,
            library.latents,
            library.threads,
            threads,
            search=SearchCalls(
                models,
                inference,
                library.films,
                library.latents,
                search,
                library.threads,
                threads,
            ),
            match_clip=MatchClip(
                models,
                inference,
                search,
                ClipMatcher(search, library.films, library.latents, library.threads),
                spools,
                clip_bytes=settings.spool_film_bytes,
                idle_seconds=settings.idle_seconds,
            ),
        ),
        server,
    )
    reconstructions = ReconstructionCalls(models, registry, jobs, job_runner)
    library_pb2_grpc.add_LibraryServiceServicer_to_server(
        library.service(settings, reconstructions), server
    )
    health.add_to(server)
    reflection.enable_server_reflection(
        (
            *filter(None, SERVICE_NAMES),
            "grpc.health.v1.Health",
            reflection.SERVICE_NAME,
        ),
        server,
    )
    await server.start()
    stack.push_async_callback(server.stop, 0)
    addresses = {
        "grpc": f"{_bracketed(settings.host)}:{port}",
        "metrics": f"{_bracketed(settings.host)}:{metrics_port}",
        "triton": triton_address,
    }
    if settings.address_file is not None:
        _write_addresses(settings.address_file, addresses)
        stack.callback(settings.address_file.unlink, missing_ok=True)
    log.info("serving", **addresses, models=[model.name for model in models.list()])
    return _Running(server, gate, health, job_runner)


async def _open_library(settings: Settings, stack: AsyncExitStack, health: Health) -> Library:
    """Open the store, watch it and keep it swept.

    One that does not answer keeps nothing but the library away.
    """
    try:
        store = open_store(settings)
    except StoreSettingsError as error:
        raise StartError(str(error)) from None
    threads = StorageThreads()
    stack.callback(threads.close)
    store_health = StoreHealth(store, health.set_store)
    # Before the first call, which would find no bucket yet.
    await store_health.look()
    await stack.enter_async_context(_background(store_health.watch()))
    library = Library.of(store, threads, settings)
    older_than = timedelta(hours=settings.upload_hours)
    await stack.enter_async_context(_background(library.keep_swept(older_than)))
    return library


async def _open_search(library: Library, models: Models, stack: AsyncExitStack) -> Search:
    """Keep indexes of the library's latents, and return what searches them."""
    indexes = IndexRefresher(models, library.films, library.latents, library.threads)
    library.latents.on_committed(indexes.notice)
    library.deletion.on_deleted(indexes.forget)
    await stack.enter_async_context(_background(indexes.keep()))
    search = Search(library.films, library.latents, library.threads, indexes)
    stack.callback(search.close)
    return search


async def _drain(running: _Running, signals: asyncio.Queue[signal.Signals], seconds: float) -> int:
    server, gate, health, jobs = running
    health.drain()
    gate.closed = True
    emptied = asyncio.create_task(_emptied(gate, jobs))
    again = asyncio.create_task(signals.get())
    done, _ = await asyncio.wait(
        {emptied, again}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
    )
    emptied.cancel()
    again.cancel()
    if gate.running:
        log.warning("ending calls that still run", calls=gate.running, told_again=again in done)
    # A moment for answers that are still on their way out; calls that go on are cancelled.
    await server.stop(0 if gate.running else 0.5)
    log.info("ended")
    return 128 + again.result() if again in done else 0


async def _emptied(gate: Gate, jobs: JobRunner) -> None:
    await asyncio.gather(gate.emptied(), jobs.drain())


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


def _start_metrics(settings: Settings) -> int:
    try:
        http, _ = start_http_server(settings.metrics_port, addr=settings.host)
    except OSError as error:
        raise StartError(
            f"cannot serve metrics on {settings.host}:{settings.metrics_port} "
            f"({error.strerror}); set REFILM_METRICS_PORT (0 takes a free port)"
        ) from None
    return http.server_port


@asynccontextmanager
async def _background(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `work` until the end of the block. It ends by itself only through a defect of ours."""
    task = asyncio.create_task(work)
    task.add_done_callback(_ended_early)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _ended_early(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        log.critical("a background task ended", exc_info=task.exception())
        # Half a service is worse than none: whoever started it starts it again.
        signal.raise_signal(signal.SIGTERM)


def _write_addresses(path: Path, addresses: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps({**addresses, "pid": os.getpid()}) + "\n")
    temporary.replace(path)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
