"""Films' processes are killed at random moments: nothing of them stays in the service."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc

from tests.support.kills import KILLS, Kills, killing
from tests.support.reconstruct import requests
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.status import parse_error

WARM_UP = 16
"""Kills after which everything that is allocated once has been."""
MEASURED = max(24, KILLS)
LEAK_BYTES = 8 << 20
MOST_BYTES_A_KILL = 2 << 20
"""Memory's slope: a quarter of the leak that is planted."""

LEAKING = f"""
from film.process import film_process
kept = []
whole = film_process.FilmProcesses.film
def leaking(self, *arguments):
    kept.append(b"x" * {LEAK_BYTES})
    return whole(self, *arguments)
film_process.FilmProcesses.film = leaking
"""


@pytest.fixture(params=["as it is", "leaking"])
def killed_service(
    request: pytest.FixtureRequest, service: ServiceProcess, tmp_path: Path
) -> Iterator[tuple[ServiceProcess, bool]]:
    """A service of its own, and whether it was made to keep some megabytes a film."""
    settings = {"REFILM_TRITON_ADDRESS": service.triton_address}
    leaking = request.param == "leaking"
    if leaking:
        # What every Python imports at its start, where it is found; children do not look for it.
        (tmp_path / "sitecustomize.py").write_text(LEAKING)
        settings["PYTHONPATH"] = str(tmp_path)
    with ServiceProcess(tmp_path / "service", [], settings) as own:
        own.wait_until_serving()
        yield own, leaking


def left_behind(service: ServiceProcess) -> dict[str, float]:
    """What a film takes in the service while it is in progress."""
    process = psutil.Process(service.process.pid)
    return {
        "descriptors": process.num_fds(),
        "processes": len(process.children(recursive=True)),
        "spool": service.metric("refilm_spool_bytes"),
        "films": service.metric("refilm_reconstructions_running"),
        "calls": service.metric("refilm_calls_running", grpc_method="ReconstructVideo"),
        "frames in Triton": service.metric("refilm_frames_in_flight"),
    }


def kill_one(service: ServiceProcess, film: bytes, delay: float) -> str:
    """Kill a film's process so many seconds after its call began; returns how the call ended."""
    server = next(
        child
        for child in psutil.Process(service.process.pid).children()
        if "film.process.forkserver" in child.cmdline()
    )
    others = set(server.children())

    def kill() -> None:
        end = time.monotonic() + delay
        (process,) = wait_for(lambda: set(server.children()) - others, "the film's process", 30)
        over.wait(max(0.0, end - time.monotonic()))
        if process.is_running():
            os.kill(process.pid, signal.SIGKILL)

    over = threading.Event()
    killer = threading.Thread(target=kill)
    with service.connect() as channel:
        responses = pb_grpc.AutoencoderServiceStub(channel).ReconstructVideo(
            requests(film), timeout=60
        )
        killer.start()
        try:
            for _ in responses:
                pass
            return "OK"
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return parse_error(error).reason
        finally:
            over.set()
            killer.join()


@killing
def test_killed_films_leave_nothing_behind(
    killed_service: tuple[ServiceProcess, bool], example_film: Path
) -> None:
    service, leaking = killed_service
    film = example_film.read_bytes()
    process = psutil.Process(service.process.pid)
    seen = Kills("film processes of ReconstructVideo", seed=int(leaking))
    chance = np.random.default_rng(int(leaking))
    for _ in range(WARM_UP):
        kill_one(service, film, chance.uniform(0, 2))
    before = wait_for(lambda: _at_rest(service), "a service at rest")
    memory = []
    for _ in range(MEASURED):
        seen.saw(kill_one(service, film, chance.uniform(0, 2)))
        wait_for(lambda: _at_rest(service), "a service at rest")
        memory.append(process.memory_info().rss)

    assert seen.count("FILM_PROCESS_LOST") > MEASURED / 2
    # A connection of the test's own may have been open when it looked before.
    wait_for(
        lambda: all(left <= before[what] for what, left in left_behind(service).items()),
        f"no more than was there before: {before}",
        30,
    )
    slope = np.polyfit(np.arange(MEASURED), memory, 1)[0]
    print(f"{slope / 1024:.0f} KiB a kill over {MEASURED} kills")
    assert (slope > MOST_BYTES_A_KILL) == leaking


def _at_rest(service: ServiceProcess) -> dict[str, float] | None:
    now = left_behind(service)
    return None if any(now[what] for what in ("spool", "films", "frames in Triton")) else now
