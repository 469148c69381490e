"""Starts the real service, with its real Triton, as a process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc

from service.rpc.health import SERVICE_NAMES

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
MESSAGES_OF_ANY_SIZE = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A connection for each test: the next must not get one that a test broke.
    ("grpc.use_local_subchannel_pool", 1),
]

Value = TypeVar("Value")


class ServiceProcess:
    """`python -m service`, running in a folder of its own."""

    def __init__(
        self, folder: Path, repositories: Iterable[Path], settings: dict[str, str] | None = None
    ) -> None:
        """Start it; `settings` are environment variables on top of the defaults for tests."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "service.log"
        self._address_file = folder / "addresses.json"
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("REFILM_")},
            "REFILM_PORT": "0",
            "REFILM_METRICS_PORT": "0",
            "REFILM_ADDRESS_FILE": str(self._address_file),
            "REFILM_MODEL_REPOSITORIES": ",".join(str(path) for path in repositories),
            "REFILM_STORAGE_DIRECTORY": str(folder / "library"),
            "REFILM_MODELS_POLL_SECONDS": "0.5",
            "REFILM_LOG_LEVEL": "debug",
            **(settings or {}),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service"], cwd=ROOT, env=environment, stderr=log
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Its gRPC address."""
        return self._addresses()["grpc"]

    @property
    def metrics_address(self) -> str:
        """Its Prometheus address, host:port."""
        return self._addresses()["metrics"]

    @property
    def triton_address(self) -> str:
        """Its Triton's gRPC address."""
        return self._addresses()["triton"]

    def connect(self) -> grpc.Channel:
        """Return a new connection; the caller closes it."""
        return grpc.insecure_channel(self.address, options=MESSAGES_OF_ANY_SIZE)

    @cached_property
    def channel(self) -> grpc.Channel:
        """A connection that stays open until the service is stopped."""
        return self.connect()

    @property
    def stub(self) -> pb_grpc.AutoencoderServiceStub:
        """The autoencoder service on that connection."""
        return pb_grpc.AutoencoderServiceStub(self.channel)

    def health(self, service: str = "") -> int:
        """Return its health now, as `HealthCheckResponse.ServingStatus`."""
        with self.connect() as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            return answer.status

    def wait_until_serving(self, service: str = SERVICE_NAMES[1]) -> None:
        """Wait until a service can answer: AutoencoderService, when a model can."""
        self._addresses()
        with self.connect() as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=service)
            for answer in stub.Watch(request, timeout=START_SECONDS):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return

    def metrics(self) -> str:
        """Return what Prometheus would scrape."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=10) as page:
            return page.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels, 0 where there are none."""
        total = 0.0
        for line in self.metrics().splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match is None or match[1] != name:
                continue
            found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
            if labels.items() <= found.items():
                total += float(match[3])
        return total

    def log_lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return its log's JSON lines, those of one event or all."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]
        return [line for line in lines if event is None or line["event"] == event]

    def children(self) -> list[psutil.Process]:
        """Return Triton and its stubs."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def fork_server(self) -> psutil.Process:
        """Return the process from which those of films and pictures are forked."""

        def look() -> psutil.Process | None:
            for child in psutil.Process(self.process.pid).children():
                if "film.process.forkserver" in child.cmdline():
                    return child
            return None

        return wait_for(look, "the fork server")

    def forked(self, main: str) -> list[psutil.Process]:
        """Return the processes of films ("film_main") or of pictures ("picture_main")."""
        found = []
        for child in self.fork_server().children():
            with suppress(psutil.NoSuchProcess):
                if child.name() == main:
                    found.append(child)
        return found

    def triton(self) -> psutil.Process:
        """Return the Triton that runs now."""
        return wait_for(
            lambda: next((c for c in self.children() if "tritonserver" in c.name()), None),
            "a running tritonserver",
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal, and return its exit code."""
        if "channel" in self.__dict__:
            self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def _addresses(self) -> dict[str, str]:
        def read() -> dict[str, str] | None:
            if self.process.poll() is not None:
                raise AssertionError(f"the service ended:\n{self.log.read_text()}")
            if not self._address_file.exists():
                return None
            addresses: dict[str, str] = json.loads(self._address_file.read_text())
            return addresses

        return wait_for(read, "the service's addresses")


def wait_for(look: Callable[..., Value | None], what: str, seconds: float = START_SECONDS) -> Value:
    """Poll until there is a true value to return."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = look()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
