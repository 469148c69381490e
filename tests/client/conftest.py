"""Services of gRPC that run in this process, and what is sent to them."""

import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import av
import grpc
import numpy as np
import pytest
from refilm.v1 import autoencoder_pb2_grpc

from tests.client.library import Cable, Library, serving
from tests.client.scripted_service import ScriptedService
from tests.client.shell import Shell


@pytest.fixture
def scripted() -> Iterator[ScriptedService]:
    service = ScriptedService()
    server = grpc.server(
        futures.ThreadPoolExecutor(8),
        options=[
            ("grpc.max_receive_message_length", 32 << 20),
            ("grpc.max_send_message_length", 32 << 20),
        ],
    )
    autoencoder_pb2_grpc.add_AutoencoderServiceServicer_to_server(service, server)
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield service
    server.stop(None).wait()


@pytest.fixture(scope="session")
def small_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of a moving gradient, 24 frames."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for index in range(24):
            row = (np.arange(320) + 8 * index) % 256
            pixels = np.tile(row.astype(np.uint8)[None, :, None], (180, 1, 3))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Bytes that pass for a film where nobody decodes them."""
    path = tmp_path / "film.mkv"
    path.write_bytes(np.random.default_rng(3).bytes(3_000_000))
    return path


@pytest.fixture
def library() -> Iterator[Library]:
    with serving(Library()) as served:
        yield served


@pytest.fixture
def cable(library: Library) -> Iterator[Cable]:
    """A connection to the library that can be cut."""
    laid = Cable(library.address)
    yield laid
    laid.close()


@pytest.fixture
def shell(
    library: Library,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Shell:
    """The command line, with the library as its service."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return Shell(tmp_path, library.address, capsys)
