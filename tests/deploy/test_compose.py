"""What deploy/ names, held against the code: settings, ports, metrics, flags, files.

The images are not built here: there is no Docker engine. Linters and schemas read the files.
"""

import json
import re
import shlex
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from ruamel.yaml import YAML

from service import metrics
from service.inference.local import wheel
from service.settings import Settings
from tests.support.service_process import ROOT, wait_for

DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
SCHEMA = ["--builtin-schema", "vendor.compose-spec"]
DOCKERFILES = [DEPLOY / "Dockerfile", DEPLOY / "trainer.Dockerfile"]


def read_yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read_yaml(DEPLOY / "compose.yaml")


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def stack_triton(
    compose: dict[str, Any], model_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The wheel's Triton, started with the stack's own flags; its HTTP and metrics addresses."""
    folder = tmp_path_factory.mktemp("triton")
    found = wheel.find_wheel()
    http, grpc, monitor = free_port(), free_port(), free_port()
    flags = compose["services"]["triton-gpu"]["command"][1:]
    command = [
        str(found.triton / "bin/tritonserver"),
        *(flag.replace("/models", str(model_repository)) for flag in flags),
        f"--backend-directory={wheel.assemble_backends(found, folder)}",
        f"--backend-config=python,shm-region-prefix-name=refilm_test_{monitor}",
        *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
        *(f"--{kind}-port={port}" for kind, port in (("http", http), ("grpc", grpc))),
        f"--metrics-port={monitor}",
    ]
    with (folder / "triton.log").open("wb") as log:
        process = subprocess.Popen(command, env=wheel.environment(found), stderr=log, stdout=log)
    try:

        def ready() -> bool:
            assert process.poll() is None, (folder / "triton.log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{http}/v2/health/ready", timeout=5)
            except OSError:
                return False
            return True

        wait_for(ready, "Triton")
        yield f"http://127.0.0.1:{http}", f"http://127.0.0.1:{monitor}"
    finally:
        process.terminate()
        process.wait(60)


def test_the_compose_file_meets_the_compose_specification() -> None:
    done = subprocess.run(
        [BIN / "check-jsonschema", *SCHEMA, DEPLOY / "compose.yaml"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles_pass_the_linter_and_do_not_run_as_root(dockerfile: Path) -> None:
    done = subprocess.run([BIN / "hadolint", dockerfile], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = dockerfile.read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001:10001"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_dockerfiles_copy_is_there_and_is_sent_to_the_engine(dockerfile: Path) -> None:
    sent = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for line in dockerfile.read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in shlex.split(line)[1:-1]:
                assert (ROOT / source).exists(), source
                assert Path(source).parts[0] in sent, source


def test_every_setting_named_exists(compose: dict[str, Any]) -> None:
    named = set(compose["services"]["service"]["environment"])
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        named |= set(re.findall(r"\b(REFILM_[A-Z0-9_]+)=", line))
    known = {f"REFILM_{name.upper()}" for name in Settings.model_fields}
    assert named <= known
    assert "REFILM_S3_ENDPOINT" in named and "REFILM_TRITON_ADDRESS" in named


def test_the_service_takes_the_settings_that_compose_gives_it(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"S3_ACCESS_KEY": "access-key", "S3_SECRET_KEY": "secret-key"}
    environment = compose["services"]["service"]["environment"]
    for name, text in environment.items():
        monkeypatch.setenv(name, substituted(text, values))
    settings = Settings()
    assert settings.triton_address == "triton:8001"
    assert settings.drain_seconds < seconds(compose["services"]["service"]["stop_grace_period"])


def test_every_variable_of_the_compose_file_is_in_the_example_and_no_other() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    example = (DEPLOY / ".env.example").read_text()
    assert used == set(re.findall(r"^([A-Z0-9_]+)=", example, re.MULTILINE))
    # No secret has a value that somebody could forget to change.
    for line in example.splitlines():
        if re.match(r"[A-Z0-9_]*(KEY|PASSWORD)=", line):
            assert line.endswith("="), line


def test_ports_are_the_ones_that_the_programs_listen_on(compose: dict[str, Any]) -> None:
    services = compose["services"]
    grpc, metrics = (Settings.model_fields[name].default for name in ("port", "metrics_port"))
    assert services["service"]["ports"][0].endswith(f":{grpc}")
    exposed = re.search(r"^EXPOSE (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert exposed is not None and exposed[1] == f"{grpc} {metrics}"
    assert f"127.0.0.1:{grpc}" in (DEPLOY / "Dockerfile").read_text()
    for name, port in published(compose):
        assert port.startswith("127.0.0.1:"), f"{name} is published to everyone"
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in read_yaml(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
    }
    assert targets == {
        "refilm": [f"service:{metrics}"],
        "triton": ["triton:8002"],
        "s3": ["s3:9000"],
    }
    source = read_yaml(DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")
    assert source["datasources"][0]["url"] == "http://prometheus:9090"


def test_whatever_is_waited_for_has_a_health_check(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            assert wait["condition"] == "service_healthy", (name, other)
            assert "healthcheck" in services[other], other
    gpu, cpu = services["triton-gpu"], services["triton-cpu"]
    assert gpu["profiles"] == ["gpu"] and cpu["profiles"] == ["cpu"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_images_are_pinned(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if "build" not in service:
            image = service["image"]
            assert not image.endswith(":latest") and ":" in image.rsplit("/", 1)[1], name


def test_files_that_are_mounted_exist(compose: dict[str, Any]) -> None:
    named = compose["volumes"]
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), source
            elif not source.startswith("${"):
                assert source in named, source


def test_triton_started_as_in_the_stack_loads_what_is_published(
    stack_triton: tuple[str, str],
) -> None:
    for model in ("pca_encoder", "pca_decoder"):
        with urllib.request.urlopen(
            f"{stack_triton[0]}/v2/models/{model}/versions/2/ready"
        ) as page:
            assert page.status == 200


def test_every_metric_of_the_dashboard_exists(
    stack_triton: tuple[str, str],
) -> None:
    with urllib.request.urlopen(f"{stack_triton[1]}/metrics") as page:
        known = service_metrics() | set(re.findall(r"^# TYPE (\S+)", page.read().decode(), re.M))
    dashboard = json.loads((DEPLOY / "grafana/dashboards/refilm.json").read_text())
    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    assert len(expressions) > 20
    for expression in expressions:
        names = metric_names(expression.replace("$__rate_interval", "1m"))
        assert names and names <= known, f"{names - known} in {expression}"


def test_the_dashboard_shows_what_an_operator_looks_for() -> None:
    text = (DEPLOY / "grafana/dashboards/refilm.json").read_text()
    for metric in (
        "grpc_server_handled_total",
        "grpc_server_handling_seconds_bucket",
        "refilm_frames_encoded_total",
        "refilm_inference_queue_seconds_bucket",
        "nv_inference_queue_duration_us",
        "refilm_store_up",
    ):
        assert metric in text
    panels = [panel for panel in json.loads(text)["panels"] if panel["type"] != "row"]
    assert all(panel["description"] for panel in panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)


def substituted(text: str, values: dict[str, str]) -> str:
    return re.sub(
        r"\$\{([A-Z0-9_]+)(?::[-?]([^}]*))?\}",
        lambda found: values.get(found[1], found[2] if ":-" in found[0] else ""),
        text,
    )


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration[:-1])


def published(compose: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, port)
        for name, service in compose["services"].items()
        for port in service.get("ports", [])
    ]


def service_metrics() -> set[str]:
    """Names of all samples, also of metrics that have none yet."""
    names = set()
    for name in metrics.names():
        names |= {name, *(f"{name}_{part}" for part in ("bucket", "sum", "count"))}
    return names


def metric_names(expression: str) -> set[str]:
    """Parse PromQL, which fails where it is wrong; return the metrics that it reads."""
    promql_parser.parse(expression)
    bare = re.sub(r"\"[^\"]*\"|\{[^}]*\}|\bby \([^)]*\)", "", expression)
    words = set(re.findall(r"[a-z_]+[a-z0-9_]*", bare))
    return {word for word in words if word.startswith(("refilm_", "grpc_", "nv_"))}
