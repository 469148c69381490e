"""Starts, runs and drains the service."""

import asyncio
import ipaddress
import json
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from service.parts import StartError, start_parts, start_processes
from service.renditions import JobRunner
from service.rpc.health import SERVICE_NAMES, Health
from service.rpc.interceptors import CallInterceptor, Gate
from service.rpc.services import add_services
from service.settings import Settings

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""A raw 1080p frame is 6.2 MB, a raw 4K frame 24.9 MB."""

_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    # Otherwise a second service could silently share the port and its calls.
    ("grpc.so_reuseport", 0),
    # A lost caller is detected within 40 s; callers may send pings as often as every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
]


async def serve(settings: Settings) -> int:
    """Run the service until SIGTERM or SIGINT; return the exit code.

    The first signal drains: running calls finish within `drain_seconds`, new ones are UNAVAILABLE.
    A second one exits at once. Raises StartError.
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
    """What shutdown needs of a running service."""

    server: grpc.aio.Server
    gate: Gate
    health: Health
    jobs: JobRunner


async def _start(settings: Settings, stack: AsyncExitStack) -> _Running:
    """Start all parts in dependency order; `stack` stops them in reverse order."""
    _warn_when_open(settings.host)
    metrics_port = _serve_metrics(settings)
    gate, health = Gate(), Health()
    # Before gRPC starts threads.
    processes = await start_processes(settings, stack)
    server, port = _listen(settings, gate)
    parts = await start_parts(
        settings, processes, stack, on_models=health.set_models, on_store=health.set_store
    )
    add_services(server, parts)
    _add_health_and_reflection(server, health)
    await server.start()
    stack.push_async_callback(server.stop, 0)

    addresses = {
        "grpc": f"{_bracketed(settings.host)}:{port}",
        "metrics": f"{_bracketed(settings.host)}:{metrics_port}",
        "triton": parts.triton_address,
    }
    if settings.address_file is not None:
        _write_addresses(settings.address_file, addresses)
        stack.callback(settings.address_file.unlink, missing_ok=True)
    models = [model.name for model in parts.models.list()]
    log.info("serving", **addresses, models=models)
    return _Running(server, gate, health, parts.jobs)


# Shutdown.


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
    # A moment to send pending responses; calls that still run are cancelled.
    await running.server.stop(0 if gate.running else 0.5)
    log.info("ended")
    return 128 + again.result() if again in done else 0


async def _emptied(running: _Running) -> None:
    await asyncio.gather(running.gate.emptied(), running.jobs.drain())


# Health and reflection.


def _add_health_and_reflection(server: grpc.aio.Server, health: Health) -> None:
    health.add_to(server)
    names = (*filter(None, SERVICE_NAMES), "grpc.health.v1.Health", reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)


# Addresses.


def _listen(settings: Settings, gate: Gate) -> tuple[grpc.aio.Server, int]:
    """Return a server bound to its port, and that port; it accepts calls once it is started."""
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
