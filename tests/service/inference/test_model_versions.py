"""New, broken and several models in a running service: nobody who calls it notices."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from refilm.v1 import autoencoder_pb2 as pb

from tests.support.messages import model_of, selector
from tests.support.models import TinyDecoder, TinyEncoder
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.status import error_of
from trainer.publish import publish

FRAME = pb.Frame(raw=pb.RawImage(width=256, height=144, rgb=bytes(range(256)) * 432))


def publish_tiny(repository: Path, name: str, seed: int) -> int:
    return publish(
        TinyEncoder(seed),
        TinyDecoder(seed),
        name=name,
        card={"recipe": "pca", "frames": 0, "films": [], "metrics": {}},
        repository=repository,
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("growing")
    publish_tiny(path, "pca", seed=1)
    return path


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[ServiceProcess]:
    other = tmp_path_factory.mktemp("growing_service") / "not/there/yet"
    with ServiceProcess(
        other.parents[2], [repository, other], {"REFILM_DEFAULT_MODEL": "pca"}
    ) as process:
        process.wait_until_serving()
        yield process


def latest(service: ServiceProcess, name: str = "pca") -> int:
    model = service.stub.GetModel(pb.GetModelRequest(name=f"models/{name}")).model
    return int(model.latest_version.rpartition("/")[2])


def names(service: ServiceProcess) -> list[str]:
    return [model.name for model in service.stub.ListModels(pb.ListModelsRequest()).models]


class Callers:
    """Calls Encode and keeps an EncodeStream going, until told to stop."""

    def __init__(self, service: ServiceProcess) -> None:
        self._stub = service.stub
        self._stop = threading.Event()
        self.versions: list[list[int]] = []
        self.stream_versions: list[int] = []

    def __enter__(self) -> "Callers":
        self._threads = ThreadPoolExecutor(4)
        self._work = [self._threads.submit(self._call) for _ in range(3)]
        self._work.append(self._threads.submit(self._stream))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._threads.shutdown()
        for work in self._work:
            work.result()

    def _call(self) -> None:
        seen: list[int] = []
        self.versions.append(seen)
        while not self._stop.is_set():
            seen.append(model_of(self._stub.Encode(pb.EncodeRequest(frame=FRAME)).model)[1])
            self._stop.wait(0.01)

    def _stream(self) -> None:
        def requests() -> Iterator[pb.EncodeStreamRequest]:
            while not self._stop.is_set():
                yield pb.EncodeStreamRequest(frame=FRAME)
                self._stop.wait(0.02)

        for answer in self._stub.EncodeStream(requests()):
            self.stream_versions.append(model_of(answer.model)[1])


def test_new_versions_are_served_without_one_failed_call(
    growing: ServiceProcess, repository: Path
) -> None:
    with Callers(growing) as callers:
        for version in (2, 3):
            assert publish_tiny(repository, "pca", seed=version) == version
            wait_for(lambda version=version: latest(growing) == version, f"version {version}")
        calls = len(callers.versions[0])
        wait_for(lambda: len(callers.versions[0]) > calls + 10, "calls to the newest version")
    for seen in callers.versions:
        assert seen == sorted(seen), "a call was answered by an older version than one before it"
        assert set(seen) == {1, 2, 3}
    assert set(callers.stream_versions) == {1}, "a stream keeps its version"


def test_an_older_version_stays_addressable(growing: ServiceProcess) -> None:
    request = pb.EncodeRequest(frame=FRAME, model=selector("pca", 1))
    assert model_of(growing.stub.Encode(request).model)[1] == 1


def test_a_broken_model_stops_nothing(growing: ServiceProcess, repository: Path) -> None:
    for half in ("encoder", "decoder"):
        good, bad = repository / f"pca_{half}", repository / f"bad_{half}"
        config = (good / "config.pbtxt").read_text().replace("pca", "bad")
        (bad / "1").mkdir(parents=True)
        (bad / "1/model.pt").write_bytes(b"not TorchScript")
        (bad / "config.pbtxt").write_text(config)
    publish_tiny(repository, "worse", seed=4)
    (repository / "worse_decoder/config.pbtxt").write_text("this is no configuration {")
    publish_tiny(repository, "zebra", seed=5)
    with Callers(growing):
        wait_for(lambda: "models/zebra" in names(growing), "the good model beside the broken ones")
        wait_for(
            lambda: (
                {"bad_decoder", "worse_decoder"}
                <= {line["model"] for line in growing.log_lines("model cannot be loaded")}
            ),
            "lines about the broken models",
        )
    assert names(growing) == ["models/pca", "models/zebra"]
    error = error_of(lambda: growing.stub.GetModel(pb.GetModelRequest(name="models/bad")))
    assert error.code is grpc.StatusCode.NOT_FOUND
    for name in ("bad", "worse"):
        for half in ("encoder", "decoder"):
            shutil.rmtree(repository / f"{name}_{half}")


def test_a_broken_version_leaves_the_one_before_serving(
    growing: ServiceProcess, repository: Path
) -> None:
    version = publish_tiny(repository, "zebra", seed=6)
    (repository / f"zebra_encoder/{version}/model.pt").write_bytes(b"not TorchScript")
    with Callers(growing):
        wait_for(
            lambda: (
                "zebra_encoder"
                in {line["model"] for line in growing.log_lines("model cannot be loaded")}
            ),
            "a line about the broken version",
        )
    assert latest(growing, "zebra") == version - 1
    request = pb.EncodeRequest(frame=FRAME, model=selector("zebra"))
    assert model_of(growing.stub.Encode(request).model)[1] == version - 1


def test_the_list_of_models_comes_in_pages(growing: ServiceProcess) -> None:
    first = growing.stub.ListModels(pb.ListModelsRequest(page_size=1))
    second = growing.stub.ListModels(
        pb.ListModelsRequest(page_size=1, page_token=first.next_page_token)
    )
    assert [model.name for page in (first, second) for model in page.models] == [
        "models/pca",
        "models/zebra",
    ]
    assert not second.next_page_token
    assert [model.is_default for page in (first, second) for model in page.models] == [True, False]
