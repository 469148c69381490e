"""Films in processes of their own: what becomes of them, and what does not become of others."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc

from tests.support.reconstruct import reconstruct, requests
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.status import parse_error

CODECS = ("libav", "libsw", "libx264", "libpng", "libjpeg", "libwebp", "libtiff", "_imaging")


@contextmanager
def in_work(service: ServiceProcess, film: Path) -> Iterator[tuple[Any, int]]:
    """A film of which the last bytes do not come, so that its process goes on until it ends."""
    data = film.read_bytes()
    over = threading.Event()

    def messages() -> Iterator[pb.ReconstructVideoRequest]:
        yield from requests(data[: len(data) * 3 // 4])
        over.wait()

    others = set(film_processes(service))
    with service.connect() as channel:
        responses = pb_grpc.AutoencoderServiceStub(channel).ReconstructVideo(messages())
        assert next(responses).WhichOneof("payload") == "facts"
        (process,) = set(film_processes(service)) - others
        try:
            yield responses, process
        finally:
            responses.cancel()
            over.set()


def film_processes(service: ServiceProcess) -> list[int]:
    return [process.pid for process in service.forked("film_main")]


def is_gone(pid: int) -> bool:
    try:
        # Whoever adopts an orphan may leave it a zombie.
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def libraries(pid: int) -> set[str]:
    """Return the names of the files that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split(maxsplit=5)[5]).name for line in lines if "/" in line}


def codecs(pid: int) -> set[str]:
    return {name for name in libraries(pid) if name.startswith(CODECS)}


def test_the_service_has_no_codec_in_its_memory(
    service: ServiceProcess, example_film: Path
) -> None:
    with in_work(service, example_film) as (_, process):
        # They are where films are.
        assert {name.split(".")[0].split("-")[0] for name in codecs(process)} >= {
            "libavcodec",
            "libavformat",
            "libswscale",
        }
        assert codecs(service.process.pid) == set()


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (signal.SIGSEGV, grpc.StatusCode.DATA_LOSS, "FILM_CRASHED"),
        (signal.SIGKILL, grpc.StatusCode.UNAVAILABLE, "FILM_PROCESS_LOST"),
        (signal.SIGXCPU, grpc.StatusCode.RESOURCE_EXHAUSTED, "FILM_LIMIT_CPU_SECONDS"),
    ],
)
def test_a_film_process_that_dies_is_its_own_films_error(
    service: ServiceProcess,
    example_film: Path,
    sent: signal.Signals,
    code: grpc.StatusCode,
    reason: str,
) -> None:
    with ThreadPoolExecutor() as pool, service.connect() as channel:
        with in_work(service, example_film) as (responses, process):
            other = pool.submit(reconstruct, channel, example_film)
            wait_for(lambda: set(film_processes(service)) - {process}, "the other film's process")
            os.kill(process, sent)
            with pytest.raises(grpc.RpcError) as ended:
                for _ in responses:
                    pass
        assert (ended.value.code(), parse_error(ended.value).reason) == (code, reason)
        assert other.result(timeout=120).code == grpc.StatusCode.OK
    wait_for(lambda: is_gone(process) or None, "the process's end")


def test_a_cancelled_film_leaves_no_process(service: ServiceProcess, example_film: Path) -> None:
    with in_work(service, example_film) as (_, process):
        assert psutil.pid_exists(process)
    wait_for(lambda: is_gone(process) or None, "the process's end")


def test_the_fork_server_is_started_again(service: ServiceProcess, example_film: Path) -> None:
    with in_work(service, example_film) as (responses, process):
        before = service.fork_server()
        before.kill()
        with pytest.raises(grpc.RpcError) as ended:
            for _ in responses:
                pass
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    wait_for(lambda: is_gone(process) or None, "the process's end")
    with service.connect() as channel:
        assert reconstruct(channel, example_film).code == grpc.StatusCode.OK
    assert service.fork_server().pid != before.pid


def test_a_service_that_is_killed_leaves_no_process(
    service: ServiceProcess, example_film: Path, tmp_path: Path
) -> None:
    settings = {"REFILM_TRITON_ADDRESS": service.triton_address}
    with ServiceProcess(tmp_path, [], settings) as other:
        other.wait_until_serving()
        with in_work(other, example_film) as (_, process):
            server = other.fork_server().pid
            other.process.kill()
            for pid in (server, process):
                wait_for(lambda pid=pid: is_gone(pid) or None, "its end")


def test_a_film_beyond_a_limit_is_reported_which(
    service: ServiceProcess, example_film: Path, tmp_path: Path
) -> None:
    settings = {"REFILM_TRITON_ADDRESS": service.triton_address, "REFILM_FILM_PICTURES": "100"}
    with ServiceProcess(tmp_path, [], settings) as limited:
        limited.wait_until_serving()
        with limited.connect() as channel:
            answer = reconstruct(channel, example_film)
    assert (answer.code, answer.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "FILM_LIMIT_PICTURES",
    )
    assert isinstance(answer.error, grpc.Call)
    assert "more than 100 pictures; REFILM_FILM_PICTURES is the limit" in answer.error.details()
