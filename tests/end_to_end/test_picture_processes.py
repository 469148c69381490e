"""Hostile pictures through the real service: each call its own error, and others' calls go on."""

import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc
from refilm.v1 import latents_pb2, latents_pb2_grpc

from film.image import encode_image
from tests.support import picture_bombs as bombs
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.status import error_of, parse_error

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
JPEG = encode_image(
    np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8), "jpeg"
)
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "endless JPEG": (bombs.endless_jpeg, "PICTURE_LIMIT_SECONDS"),
    "PNG of 50,000 x 50,000": (bombs.large_png, "PICTURE_LIMIT_PIXELS"),
    "WebP of 16,000 x 16,000": (bombs.huge_webp, "PICTURE_LIMIT_PIXELS"),
    "text": (lambda: bombs.text_png(b"iTXt"), "INVALID_IMAGE"),
}


def encode(image: bytes) -> pb.EncodeRequest:
    return pb.EncodeRequest(frame=pb.Frame(image=image))


@contextmanager
def started(service: ServiceProcess, folder: Path, **settings: str) -> Iterator[ServiceProcess]:
    """A service of its own in front of the same Triton."""
    settings = {"REFILM_TRITON_ADDRESS": service.triton_address, **settings}
    with ServiceProcess(folder, [], settings) as process:
        process.wait_until_serving()
        yield process


@pytest.fixture(scope="module")
def quick(
    service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A service in which a picture may take one second."""
    with started(service, tmp_path_factory.mktemp("quick"), REFILM_PICTURE_SECONDS="1") as process:
        yield process


def by_encode(service: ServiceProcess, image: bytes) -> object:
    return service.stub.Encode(encode(image))


def by_stream(service: ServiceProcess, image: bytes) -> object:
    """The third picture of a stream; the answers to those before come first."""
    frames = [JPEG, JPEG, image, JPEG]
    responses = service.stub.EncodeStream(
        iter([pb.EncodeStreamRequest(frame=pb.Frame(image=each)) for each in frames])
    )
    assert [next(responses).index for _ in range(2)] == [0, 1]
    return next(responses)


def by_search(service: ServiceProcess, image: bytes) -> object:
    stub = latents_pb2_grpc.LatentsServiceStub(service.channel)
    return stub.SearchFrames(latents_pb2.SearchFramesRequest(frame=pb.Frame(image=image)))


CALLS: dict[str, Callable[[ServiceProcess, bytes], object]] = {
    "Encode": by_encode,
    "EncodeStream": by_stream,
    "SearchFrames": by_search,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_its_callers_error_alone(quick: ServiceProcess, call: str, bomb: str) -> None:
    make, reason = BOMBS[bomb]
    image = make()
    quick.stub.Encode(encode(JPEG))  # Connected.
    over = threading.Event()
    others: list[int] = []

    def go_on() -> None:
        with quick.connect() as channel:
            stub = pb_grpc.AutoencoderServiceStub(channel)
            while not over.is_set() or len(others) < 3:
                others.append(len(stub.Encode(encode(JPEG)).latent.floats.values))

    other = threading.Thread(target=go_on)
    other.start()
    try:
        error = error_of(lambda: CALLS[call](quick, image))
    finally:
        over.set()
        other.join()
    assert set(others) == {200}
    field = "frame[2].image" if call == "EncodeStream" else "frame.image"
    assert (error.reason, error.fields) == (reason, [field])
    if reason == "INVALID_IMAGE":
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    else:
        assert error.code is EXHAUSTED
        setting = reason.replace("PICTURE_LIMIT", "REFILM_PICTURE")
        assert error.metadata["setting"] == setting
        assert setting in error.message
    assert quick.metric("refilm_pictures_refused_total", reason=reason) > 0


def test_a_picture_over_a_limit_is_not_sent_again(quick: ServiceProcess) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        quick.stub.Encode(encode(bombs.large_png()))
    assert parse_error(refused.value).code is EXHAUSTED
    assert ("grpc-retry-pushback-ms", "-1") in list(refused.value.trailing_metadata())


def picture_processes(service: ServiceProcess) -> list[psutil.Process]:
    return service.forked("picture_main")


def computing(service: ServiceProcess) -> psutil.Process | None:
    """A picture process that has been at work for some time."""
    for process in picture_processes(service):
        if process.cpu_times().user > 0.5:
            return process
    return None


def test_a_callers_deadline_stops_the_reconstruction(
    service: ServiceProcess, tmp_path: Path
) -> None:
    """And with the limit on its time lifted, nothing else does."""
    with started(service, tmp_path / "slow", REFILM_PICTURE_SECONDS="3600") as slow:
        call = slow.stub.Encode.future(encode(bombs.endless_jpeg()))
        process = wait_for(lambda: computing(slow), "a process at work")
        call.cancel()
        process.wait(10)
        error = error_of(lambda: slow.stub.Encode(encode(bombs.endless_jpeg()), timeout=1))
        assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
        wait_for(
            lambda: slow.metric("refilm_picture_processes_replaced_total") == 2, "both replaced"
        )
        assert len(slow.stub.Encode(encode(JPEG)).latent.floats.values) == 200


def test_a_picture_in_progress_does_not_outlive_two_signals(
    service: ServiceProcess, tmp_path: Path
) -> None:
    with started(service, tmp_path / "ending", REFILM_PICTURE_SECONDS="3600") as ending:
        call = ending.stub.Encode.future(encode(bombs.endless_jpeg()))
        wait_for(lambda: computing(ending), "a process at work")
        processes = picture_processes(ending)
        ending.process.send_signal(signal.SIGTERM)
        wait_for(lambda: ending.log_lines("draining"), "the drain")
        ending.process.send_signal(signal.SIGTERM)
        assert ending.process.wait(10) == 128 + signal.SIGTERM
        assert isinstance(call.exception(), grpc.RpcError)
        for process in processes:
            process.wait(10)


def kill(process: psutil.Process, _: object = None) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


def test_kills_of_picture_processes_leave_nothing_behind(quick: ServiceProcess) -> None:
    """Each call is answered, by a second process if need be, or says that it may be tried again."""
    for _ in range(5):
        quick.stub.Encode(encode(JPEG))
    running = psutil.Process(quick.process.pid)
    before = running.num_fds()
    chance = random.Random(0)
    lost = 0
    for _ in range(20):
        calls = [quick.stub.Encode.future(encode(JPEG)) for _ in range(6)]
        victim = chance.choice(picture_processes(quick))
        chance.choice(calls).add_done_callback(partial(kill, victim))
        for call in calls:
            try:
                assert len(call.result().latent.floats.values) == 200
            except grpc.RpcError as error:
                assert parse_error(error).reason == "PICTURE_PROCESS_LOST"
                lost += 1
    assert lost < 10
    for _ in range(2):  # Each process is looked at in its turn.
        quick.stub.Encode(encode(JPEG))
    assert len(picture_processes(quick)) == 2
    wait_for(lambda: running.num_fds() <= before or None, "the descriptors as before")


def test_no_codec_is_in_the_services_memory(quick: ServiceProcess) -> None:
    for call in (by_encode, by_search):
        call(quick, JPEG)
    mapped = Path(f"/proc/{quick.process.pid}/maps").read_text()
    assert "grpc" in mapped
    for library in ("libav", "libsw", "_imaging", "libjpeg", "libwebp", "PIL"):
        assert library not in mapped
