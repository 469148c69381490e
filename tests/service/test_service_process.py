"""The service as a process: how it starts, what kills it or its Triton, and how it ends."""

import os
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc

from service.inference.local import workspace
from tests.support.messages import selector
from tests.support.models import TinyDecoder, TinyEncoder
from tests.support.service_process import ROOT, ServiceProcess, wait_for
from tests.support.status import error_of, parse_error
from trainer.publish import publish

FRAME = pb.Frame(raw=pb.RawImage(width=256, height=144, rgb=bytes(256 * 144 * 3)))
ENCODE = pb.EncodeRequest(frame=FRAME)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Start = Callable[..., ServiceProcess]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One version only: the fewer processes Triton starts, the sooner it serves."""
    path = tmp_path_factory.mktemp("one_version")
    card = {"recipe": "pca", "frames": 0, "films": [], "metrics": {}}
    publish(TinyEncoder(1), TinyDecoder(1), name="pca", card=card, repository=path)
    return path


@pytest.fixture
def start(tmp_path: Path, repository: Path) -> Iterator[Start]:
    """Starts services that end with the test."""
    started: list[ServiceProcess] = []

    def start_one(**settings: str) -> ServiceProcess:
        folder = tmp_path / f"service{len(started)}"
        started.append(ServiceProcess(folder, [repository], settings))
        started[-1].wait_until_serving()
        return started[-1]

    yield start_one
    for service in started:
        service.stop(signal.SIGKILL)


class OpenStream:
    """An EncodeStream whose frames are sent one by one."""

    def __init__(self, stub: pb_grpc.AutoencoderServiceStub) -> None:
        self._frames: queue.Queue[pb.EncodeStreamRequest | None] = queue.Queue()
        self.call = stub.EncodeStream(iter(self._frames.get, None))

    def encode(self) -> pb.EncodeStreamResponse:
        self._frames.put(pb.EncodeStreamRequest(frame=FRAME))
        return next(self.call)

    def end(self) -> list[pb.EncodeStreamResponse]:
        self._frames.put(None)
        return list(self.call)


def answer_unless_unavailable(
    service: ServiceProcess, request: pb.EncodeRequest
) -> pb.EncodeResponse | None:
    """Encode; None if the service says that it cannot now, and when to try again."""
    try:
        return service.stub.Encode(request)
    except grpc.RpcError as error:
        failure = parse_error(error)
        assert failure.code is grpc.StatusCode.UNAVAILABLE, failure
        assert failure.retry_seconds is not None, failure
        return None


def leftovers_of(name: str) -> list[Path]:
    return [path for path in workspace.SHARED_MEMORY.iterdir() if path.name.startswith(name)]


def workspace_name(service: ServiceProcess) -> str:
    """Return the token that the service's Triton carries in its command line."""
    (option,) = [part for part in service.triton().cmdline() if "shm-region-prefix-name" in part]
    return option.rpartition("=")[2].removesuffix("_")


def test_a_killed_triton_is_replaced_and_meanwhile_calls_say_so(start: Start) -> None:
    service = start()
    with service.connect() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        stream = OpenStream(service.stub)
        stream.encode()
        victim = service.triton()
        stubs = victim.children(recursive=True)

        victim.kill()

        assert next(watch).status == NOT_SERVING
        error = error_of(lambda: service.stub.Encode(ENCODE))
        assert error.code is grpc.StatusCode.UNAVAILABLE
        assert error.retry_seconds is not None and error.retry_seconds > 0
        assert service.triton_address not in error.message
        assert service.metric("refilm_triton_up") == 0
        error = error_of(stream.encode)
        assert error.code is grpc.StatusCode.UNAVAILABLE
        # From here on until it serves again every call says the same, by whatever name it asks.
        named = pb.EncodeRequest(frame=FRAME, model=selector("pca", 1))
        wait_for(lambda: answer_unless_unavailable(service, named), "an answer")
        assert next(watch).status == SERVING
        watch.cancel()
    answer = service.stub.Encode(ENCODE)
    assert (
        answer.model.name
        == service.stub.GetModel(pb.GetModelRequest(name="models/pca")).model.latest_version
    )
    assert service.triton().pid != victim.pid
    assert service.metric("refilm_triton_up") == 1
    assert service.metric("refilm_triton_restarts_total") == 1
    wait_for(lambda: not any(stub.is_running() for stub in stubs), "the end of the old stubs")


def test_a_killed_service_leaves_nothing_behind_the_next_start(start: Start) -> None:
    beside, victim = start(), start()
    name = workspace_name(victim)
    children = victim.children()
    assert len(children) >= 3, "Triton, and a stub for each half of the model"
    folder = Path(next(iter(leftovers_of(name + ".lock"))).read_text())

    victim.stop(signal.SIGKILL)

    wait_for(lambda: not any(alive(child) for child in children), "the end of Triton and its stubs")
    next_one = start()
    assert leftovers_of(name) == []
    assert not folder.exists()
    for service in (beside, next_one):
        assert len(service.stub.Encode(ENCODE).latent.floats.values) == 200


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_an_ended_service_leaves_nothing_behind(start: Start) -> None:
    service = start()
    name, children = workspace_name(service), service.children()
    folder = Path(next(iter(leftovers_of(name + ".lock"))).read_text())
    assert service.stop() == 0
    assert leftovers_of(name) == []
    assert not folder.exists()
    wait_for(lambda: not any(alive(child) for child in children), "the end of Triton and its stubs")


def test_the_first_signal_drains_and_loses_nothing(start: Start) -> None:
    service = start()
    stream = OpenStream(service.stub)
    stream.encode()
    with service.connect() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        service.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        watch.cancel()
    error = error_of(lambda: service.stub.Encode(ENCODE))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert error.retry_seconds is not None
    assert stream.encode().index == 1
    stream.encode()
    assert stream.end() == []
    assert stream.call.code() is grpc.StatusCode.OK
    assert service.process.wait(30) == 0
    lines = service.log_lines("call")
    assert [line["code"] for line in lines if line["method"].endswith("/EncodeStream")] == ["OK"]


@pytest.mark.parametrize("how", ["a second signal", "the end of the time to drain"])
def test_calls_that_go_on_are_ended(start: Start, how: str) -> None:
    service = start(REFILM_DRAIN_SECONDS="3600" if how == "a second signal" else "0.2")
    stream = OpenStream(service.stub)
    stream.encode()
    service.process.send_signal(signal.SIGTERM)
    if how == "a second signal":
        wait_for(lambda: service.log_lines("draining"), "the first signal's line")
        service.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as ended:
        next(stream.call)
    assert parse_error(ended.value).code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
    )
    assert service.process.wait(30) == (128 + signal.SIGTERM if how == "a second signal" else 0)


def run_service(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a service that cannot start, to its end."""
    environment = {
        **os.environ,
        "REFILM_PORT": "0",
        "REFILM_METRICS_PORT": "0",
        "REFILM_MODEL_REPOSITORIES": str(folder / "models"),
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("setting", ["REFILM_PORT", "REFILM_METRICS_PORT"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_service(tmp_path, **{setting: str(port)})
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr and setting in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_that_is_wrong_is_named(tmp_path: Path) -> None:
    done = run_service(tmp_path, REFILM_PORT="many", REFILM_DRAIN_SECONDS="-1")
    assert done.returncode == 2
    assert "REFILM_PORT" in done.stderr and "REFILM_DRAIN_SECONDS" in done.stderr
    assert "Traceback" not in done.stderr


def test_listening_beyond_this_machine_is_warned_of(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path, [tmp_path / "models"], {"REFILM_HOST": "0.0.0.0"}) as service:
        assert service.address.startswith("0.0.0.0:")
        (line,) = [line for line in service.log_lines() if "without TLS" in str(line["event"])]
        assert line["level"] == "warning"


def test_a_triton_elsewhere_is_used_and_none_started(
    service: ServiceProcess, tmp_path: Path
) -> None:
    settings = {"REFILM_TRITON_ADDRESS": service.triton_address}
    with ServiceProcess(tmp_path, [], settings) as beside:
        beside.wait_until_serving()
        names = [child.name() for child in beside.children()]
        assert not [name for name in names if "triton" in name]
        assert beside.stub.Encode(ENCODE).latent == service.stub.Encode(ENCODE).latent
    assert len(service.stub.Encode(ENCODE).latent.floats.values) == 200


def test_a_triton_elsewhere_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    with ServiceProcess(tmp_path, [], {"REFILM_TRITON_ADDRESS": address}) as service:
        assert service.health() == NOT_SERVING
        error = error_of(lambda: service.stub.Encode(ENCODE))
        assert error.code is grpc.StatusCode.UNAVAILABLE
        assert address not in error.message


def test_the_service_never_imports_torch() -> None:
    code = "import service.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
