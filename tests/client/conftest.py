"""A small gRPC server that does what a healthy service cannot easily be brought to do."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

import av
import grpc
import numpy as np
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_status import rpc_status
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc

if TYPE_CHECKING:
    from .library import Cable, Library
    from .shell import Shell

IDENTITY = pb.ModelIdentity(name="pca", version=2, digest="sha256:" + "a" * 64)


def rich(code: grpc.StatusCode, message: str, *details: Message) -> grpc.Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)


def _unimplemented(request: object, context: grpc.ServicerContext) -> object:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "not part of this test")


class ScriptedService(autoencoder_pb2_grpc.AutoencoderServiceServicer):
    """Each test says what a method does."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[Message] = []
        self.cancelled = threading.Event()
        self.on_encode: Callable[..., object] = _unimplemented
        self.on_decode: Callable[..., object] = _unimplemented
        self.on_encode_stream: Callable[..., Iterable[object]] = _unimplemented
        self.on_reconstruct: Callable[..., Iterable[object]] = _unimplemented
        self.on_list: Callable[..., object] = _unimplemented

    def Encode(self, request, context):
        self.requests.append(request)
        return self.on_encode(request, context)

    def Decode(self, request, context):
        self.requests.append(request)
        return self.on_decode(request, context)

    def EncodeStream(self, request_iterator, context):
        context.add_callback(self.cancelled.set)
        yield from self.on_encode_stream(request_iterator, context)

    def DecodeStream(self, request_iterator, context):
        raise NotImplementedError

    def ReconstructVideo(self, request_iterator, context):
        context.add_callback(self.cancelled.set)
        yield from self.on_reconstruct(request_iterator, context)

    def ListModels(self, request, context):
        self.requests.append(request)
        return self.on_list(request, context)

    def GetModel(self, request, context):
        raise NotImplementedError


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
def library() -> Iterator["Library"]:
    from .library import Library, serving

    with serving(Library()) as served:
        yield served


@pytest.fixture
def cable(library: "Library") -> Iterator["Cable"]:
    """A connection to the library that can be cut."""
    from .library import Cable

    laid = Cable(library.address)
    yield laid
    laid.close()


@pytest.fixture
def shell(
    library: "Library",
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> "Shell":
    """The command line, with the library as its service."""
    from .shell import Shell

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return Shell(tmp_path, library.address, capsys)
