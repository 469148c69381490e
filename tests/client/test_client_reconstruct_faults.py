"""Reconstructions that are truncated: what is told, what is kept, and what is left behind."""

import asyncio
import contextlib
import io
import socket
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
import refilm
import refilm.aio
from google.rpc import error_details_pb2
from refilm.v1 import autoencoder_pb2 as pb

from tests.client.reconstructions import FACTS, Requests, Responses, names, response, whole
from tests.client.scripted_service import ScriptedService, latent, rich


def breaks_off(requests: Requests, context: grpc.ServicerContext) -> Responses:
    yield response(facts=FACTS)
    yield response(chunk=b"what could be made of it")
    yield response(latents=pb.LatentBatch(pts=[7], latents=[latent([1.5] * 200)]))
    for _ in requests:
        pass
    context.abort_with_status(
        rich(
            grpc.StatusCode.DATA_LOSS,
            "the film is truncated after 12 frames",
            error_details_pb2.ErrorInfo(domain="refilm", reason="FILM_TRUNCATED"),
        )
    )


def test_what_could_be_made_of_a_broken_film_is_kept(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = breaks_off
    out = tmp_path / "out.mp4"
    out.write_bytes(b"an older one")
    with (
        refilm.Client(scripted.address) as client,
        pytest.raises(refilm.DataLossError, match=r"after 12 frames .*out\.partial\.mp4") as caught,
    ):
        client.reconstruct(film, out, latents=tmp_path / "l.npz")
    assert caught.value.partial == tmp_path / "out.partial.mp4"
    assert caught.value.reason == "FILM_TRUNCATED"
    assert caught.value.partial.read_bytes() == b"what could be made of it"
    assert out.read_bytes() == b"an older one"
    assert np.load(tmp_path / "l.partial.npz")["pts"].tolist() == [7]
    assert names(tmp_path) == {"film.mkv", "out.mp4", "out.partial.mp4", "l.partial.npz"}


def test_a_cut_connection_leaves_nothing_behind_and_is_not_tried_again(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    calls: list[int] = []

    def cut(requests: Requests, context: grpc.ServicerContext) -> Responses:
        calls.append(1)
        yield response(facts=FACTS)
        yield response(chunk=b"some")
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    scripted.on_reconstruct = cut
    with (
        refilm.Client(scripted.address) as client,
        pytest.raises(refilm.UnavailableError, match="cannot be reached: Socket closed"),
    ):
        client.reconstruct(film, tmp_path / "out.mp4")
    assert len(calls) == 1
    assert names(tmp_path) == {"film.mkv"}


def test_an_end_without_a_summary_is_no_success(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = lambda requests, context: iter([response(facts=FACTS)])
    with (
        refilm.Client(scripted.address) as client,
        pytest.raises(refilm.InternalError, match="without its summary"),
    ):
        client.reconstruct(film, tmp_path / "out.mp4")
    assert names(tmp_path) == {"film.mkv"}


def test_an_interrupt_ends_the_call_and_leaves_nothing_behind(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    def interrupt(progress: refilm.Progress) -> None:
        raise KeyboardInterrupt

    scripted.on_reconstruct = whole(scripted)
    with refilm.Client(scripted.address) as client:
        with pytest.raises(KeyboardInterrupt):
            client.reconstruct(film, tmp_path / "out.mp4", progress=interrupt)
        assert scripted.cancelled.wait(60)
    assert names(tmp_path) == {"film.mkv"}


class _StuckFilm:
    """A pipe that nobody writes to any more."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.first = True

    def read(self, size: int) -> bytes:
        if self.first:
            self.first = False
            return b"the beginning"
        self.release.wait(60)
        return b""


def test_a_refusal_does_not_wait_for_a_film_that_does_not_come(scripted: ScriptedService) -> None:
    def refuse(requests: Requests, context: grpc.ServicerContext) -> Responses:
        next(requests)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no film")

    scripted.on_reconstruct = refuse
    film = _StuckFilm()
    with (
        refilm.Client(scripted.address) as client,
        pytest.raises(refilm.InvalidRequestError),
    ):
        client.reconstruct(film, io.BytesIO())
    assert not film.release.is_set()
    film.release.set()


def test_a_film_that_cannot_be_read_further_raises_its_own_error(
    scripted: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def read(self, size: int) -> bytes:
            raise OSError(5, "Input/output error")

    scripted.on_reconstruct = whole(scripted)
    with refilm.Client(scripted.address) as client, pytest.raises(OSError, match="Input/output"):
        client.reconstruct(Broken(), io.BytesIO())
    assert "iterating requests" not in caplog.text


class _Relay:
    """A connection between client and server that can be cut."""

    def __init__(self, address: str) -> None:
        self._target = ("127.0.0.1", int(address.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends the connection, and takes no other."""
        self._listener.close()
        for one in self._sockets:
            one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        ours, _ = self._listener.accept()
        theirs = socket.create_connection(self._target)
        self._sockets += [ours, theirs]
        for source, target in ((ours, theirs), (theirs, ours)):
            threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)


def test_a_connection_that_breaks_in_the_middle_is_unavailable(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    def hang(requests: Requests, context: grpc.ServicerContext) -> Responses:
        yield response(facts=FACTS)
        yield response(chunk=b"some")
        yield response(progress=pb.ReconstructionProgress(frames_written=1))
        scripted.cancelled.wait(60)

    scripted.on_reconstruct = hang
    relay = _Relay(scripted.address)
    with (
        refilm.Client(relay.address) as client,
        pytest.raises(refilm.UnavailableError, match=f"the service at {relay.address} cannot"),
    ):
        client.reconstruct(film, tmp_path / "out.mp4", progress=lambda _: relay.cut())
    assert scripted.cancelled.wait(60)
    assert names(tmp_path) == {"film.mkv"}


async def test_cancelling_the_task_ends_the_call_and_leaves_nothing_behind(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    def hang(requests: Requests, context: grpc.ServicerContext) -> Responses:
        yield response(facts=FACTS)
        yield response(chunk=b"some")
        yield response(progress=pb.ReconstructionProgress(frames_written=1))
        scripted.cancelled.wait(60)

    scripted.on_reconstruct = hang
    under_way = asyncio.Event()
    async with refilm.aio.Client(scripted.address) as client:
        task = asyncio.create_task(
            client.reconstruct(film, tmp_path / "out.mp4", progress=lambda _: under_way.set())
        )
        await under_way.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(scripted.cancelled.wait, 60)
    assert names(tmp_path) == {"film.mkv"}
