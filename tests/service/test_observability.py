"""What the operator sees: health, reflection, metrics, log lines, and the pages about them."""

import re
from pathlib import Path
from typing import Any

import grpc
import pytest
import refilm
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from refilm.v1 import autoencoder_pb2 as pb

from service import metrics
from service.settings import Settings
from tests.film.clips import make_clip
from tests.support.messages import latent
from tests.support.service_process import ROOT, ServiceProcess, wait_for
from tests.support.status import error_of

ENCODE = pb.EncodeRequest(
    frame=pb.Frame(raw=pb.RawImage(width=256, height=144, rgb=bytes(256 * 144 * 3)))
)
AUTOENCODER = "refilm.v1.AutoencoderService"


def test_health_is_reported_overall_and_by_service(service: ServiceProcess) -> None:
    for name in ("", AUTOENCODER):
        assert service.health(name) == health_pb2.HealthCheckResponse.SERVING
    error = error_of(lambda: service.health("refilm.v1.Nothing"))
    assert error.code is grpc.StatusCode.NOT_FOUND


def test_without_a_model_nothing_is_served(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path, [tmp_path / "models"]) as empty:
        for name in ("", AUTOENCODER):
            assert empty.health(name) == health_pb2.HealthCheckResponse.NOT_SERVING
        error = error_of(lambda: empty.stub.Encode(ENCODE))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_MODEL_READY")
        assert error.retry_seconds is not None
        assert not empty.stub.ListModels(pb.ListModelsRequest()).models


def test_reflection_tells_of_every_service(service: ServiceProcess) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=AUTOENCODER),
    ]
    listed, described = stub.ServerReflectionInfo(iter(requests))
    names = {entry.name for entry in listed.list_services_response.service}
    assert {AUTOENCODER, "grpc.health.v1.Health"} <= names
    files = [
        FileDescriptorProto.FromString(file)
        for file in described.file_descriptor_response.file_descriptor_proto
    ]
    assert "AutoencoderService" in {entry.name for file in files for entry in file.service}


def test_a_call_is_counted_and_logged_once_under_its_request_id(service: ServiceProcess) -> None:
    labels = {"grpc_service": AUTOENCODER, "grpc_method": "Encode"}
    before = {
        name: service.metric(name, **labels)
        for name in ("grpc_server_started_total", "grpc_server_handling_seconds_count")
    }
    ok = service.metric("grpc_server_handled_total", grpc_code="OK", **labels)
    frames = service.metric("refilm_frames_encoded_total", model="pca")
    answer, call = service.stub.Encode.with_call(ENCODE, metadata=(("x-request-id", "test-7"),))
    assert ("x-request-id", "test-7") in list(call.trailing_metadata())
    for name, count in before.items():
        assert service.metric(name, **labels) == count + 1
    assert service.metric("grpc_server_handled_total", grpc_code="OK", **labels) == ok + 1
    assert service.metric("refilm_frames_encoded_total", model="pca") == frames + 1
    digest = answer.model.digest
    assert service.metric("refilm_model_version_ready", model="pca", digest=digest) == 1
    assert service.metric("refilm_triton_up") == 1

    def lines() -> list[dict[str, Any]]:
        return [line for line in service.log_lines("call") if line["request_id"] == "test-7"]

    (line,) = wait_for(lines, "the call's log line")
    assert line["method"] == f"{AUTOENCODER}/Encode"
    assert (line["code"], line["model"], line["version"], line["frames"]) == ("OK", "pca", 2, 1)
    assert line["received_bytes"] == ENCODE.ByteSize()
    assert line["sent_bytes"] == answer.ByteSize()
    assert line["seconds"] > 0
    assert str(line["peer"]).startswith("ipv4:127.0.0.1:")


def test_a_refused_call_is_counted_by_its_code(service: ServiceProcess) -> None:
    labels = {"grpc_method": "Decode", "grpc_code": "INVALID_ARGUMENT"}
    before = service.metric("grpc_server_handled_total", **labels)
    error_of(lambda: service.stub.Decode(pb.DecodeRequest()))
    assert service.metric("grpc_server_handled_total", **labels) == before + 1


def test_a_method_that_is_not_there_is_unimplemented(service: ServiceProcess) -> None:
    call: Any = service.channel.unary_unary(f"/{AUTOENCODER}/Nothing")
    assert error_of(lambda: call(b"")).code is grpc.StatusCode.UNIMPLEMENTED


def rows(heading: str) -> dict[str, str]:
    """Return a table of docs/operations.md: the first column without backticks, and the second."""
    text = (ROOT / "docs/operations.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.*?) \|", text, re.MULTILINE))


def test_the_table_of_settings_is_true() -> None:
    expected = {}
    for name, field in Settings.model_fields.items():
        value = field.default
        if isinstance(value, tuple):
            value = ",".join(str(part) for part in value)
        expected[f"REFILM_{name.upper()}"] = "" if value in ("", None) else f"`{value}`"
    assert rows("Settings") == expected


def test_the_table_of_metrics_is_true() -> None:
    assert set(rows("Metrics")) == metrics.names()


@pytest.mark.parametrize("name", ["", "  ", ".refilm/models, other"])
def test_repositories_are_separated_by_commas(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFILM_MODEL_REPOSITORIES", name)
    expected = tuple(Path(part.strip()) for part in name.split(",") if part.strip())
    assert Settings().model_repositories == expected


def test_a_caller_who_leaves_in_the_middle_of_an_answer_is_logged_as_well(
    service: ServiceProcess,
) -> None:
    """And so counted out of the drain, which would otherwise wait for it in vain."""

    def lines() -> list[dict[str, Any]]:
        method = f"{AUTOENCODER}/DecodeStream"
        return [line for line in service.log_lines("call") if line["method"] == method]

    def decoded() -> float:
        return service.metric("refilm_frames_decoded_total")

    before, frames = len(lines()), decoded()
    request = pb.DecodeStreamRequest(latent=latent([0.0] * 200))
    # Raw pictures, 22 MB: far more than the connection holds while nobody reads.
    answers = service.stub.DecodeStream(iter([request] * 200))
    next(answers)
    # Three batches are in progress at once, of as many latents as had come: of one, maybe.
    wait_for(lambda: decoded() >= frames + 3, "answers that wait to be read")
    answers.cancel()

    wait_for(lambda: len(lines()) > before, "the call's line", seconds=30)

    assert lines()[-1]["code"] == "CANCELLED"


def test_a_film_that_the_client_has_reconstructed_is_logged_as_ok(
    service: ServiceProcess, tmp_path: Path
) -> None:
    def codes() -> list[object]:
        method = f"{AUTOENCODER}/ReconstructVideo"
        return [line["code"] for line in service.log_lines("call") if line["method"] == method]

    before = len(codes())
    clip = make_clip(tmp_path / "film.mp4", size=(64, 36), frames=6)

    with refilm.Client(service.address) as client:
        client.reconstruct(clip.path, tmp_path / "out.mp4")

    wait_for(lambda: len(codes()) > before, "the call's line")
    assert codes()[before:] == ["OK"]
