"""Reconstructions against a scripted server: what lies where when it goes well, and when not."""

import asyncio
import contextlib
import gzip
import io
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import refilm
import refilm.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from refilm.v1 import autoencoder_pb2 as pb

from .conftest import IDENTITY, ScriptedService, rich

FACTS = pb.FilmFacts(
    container="mp4",
    video_codec="h264",
    width=640,
    height=360,
    time_base=pb.Rational(numerator=1, denominator=24),
    duration=Duration(seconds=2),
    estimated_frames=48,
    sound_tracks=[
        pb.SoundTrack(codec="aac", sample_rate_hz=48000, action=pb.SOUND_TRACK_ACTION_COPIED)
    ],
    model=IDENTITY,
    output_width=256,
    output_height=144,
)
Responses = Iterator[pb.ReconstructVideoResponse]
Requests = Iterator[pb.ReconstructVideoRequest]


def response(**payload: object) -> pb.ReconstructVideoResponse:
    return pb.ReconstructVideoResponse(**payload)


def whole(scripted: ScriptedService) -> Callable[[Requests, grpc.ServicerContext], Responses]:
    """A service that answers with the film's own bytes, the facts first."""

    def answer(requests: Requests, context: grpc.ServicerContext) -> Responses:
        settings = next(requests).settings
        scripted.requests.append(settings)
        yield response(film=FACTS)
        count = 0
        for number, request in enumerate(requests):
            count += len(request.chunk)
            yield response(chunk=request.chunk)
            yield response(
                progress=pb.ReconstructVideoProgress(
                    bytes_received=count, frames_decoded=12 + number, frames_written=12 + number
                )
            )
            if settings.include_latents:
                values = [number + 0.25] * 200 + [number + 0.5] * 200
                yield response(latents=pb.LatentBatch(pts=[number, number + 1], values=values))
        yield response(
            summary=pb.ReconstructVideoSummary(
                frames=48,
                duration=Duration(seconds=2),
                bytes_received=count,
                bytes_sent=count,
                film_digest="sha256:film",
                model=IDENTITY,
                warnings=["one thing was repaired"],
            )
        )

    return answer


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mkv"
    path.write_bytes(np.random.default_rng(3).bytes(3_000_000))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_film_goes_through_and_appears_whole(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    out = tmp_path / "out.mp4"
    out.write_bytes(b"an older one")
    seen: list[refilm.Progress] = []
    with refilm.Client(scripted.address) as client:
        result = client.reconstruct(
            film,
            out,
            model="pca",
            layout="side_by_side",
            size="source",
            sound=False,
            quality="high",
            progress=seen.append,
        )

    assert out.read_bytes() == film.read_bytes()
    assert names(tmp_path) == {"film.mkv", "out.mp4"}
    settings = scripted.requests[0]
    assert isinstance(settings, pb.ReconstructVideoSettings)
    assert settings.model.name == "pca"
    assert settings.layout == pb.LAYOUT_SIDE_BY_SIDE
    assert settings.size == pb.SIZE_SOURCE
    assert settings.sound == pb.SOUND_NONE
    assert settings.quality == pb.QUALITY_HIGH
    assert settings.film_size_bytes == 3_000_000
    assert not settings.include_latents
    assert (result.frames, result.duration, result.warnings) == (
        48,
        2.0,
        ("one thing was repaired",),
    )
    assert result.film.sound_tracks[0].action == "copied"
    assert seen[0].fraction == 12 / 48
    assert seen[0].bytes_total == 3_000_000
    assert (seen[-1].fraction, seen[-1].frames_written, seen[-1].eta) == (1.0, 48, 0.0)
    assert seen[-1].bytes_sent == 3_000_000


async def test_the_asynchronous_client_does_the_same(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    out = tmp_path / "out.mp4"
    whole_film = film.read_bytes()  # noqa: ASYNC240  # a test may wait for its disk
    async with refilm.aio.Client(scripted.address) as client:
        result = await client.reconstruct(film, out, latents=tmp_path / "l.npy")
    assert result.film_digest == "sha256:film"
    assert out.read_bytes() == whole_film
    assert np.load(tmp_path / "l.npy").shape[1] == 200


def test_file_objects_are_read_from_where_they_stand(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    packed = tmp_path / "film.gz"
    packed.write_bytes(gzip.compress(film.read_bytes(), 1))
    with refilm.Client(scripted.address) as client:
        for opened, size in (
            (io.BytesIO(film.read_bytes()), 3_000_000),
            (film.open("rb"), 3_000_000),
            # The packed file's size is not the film's.
            (gzip.GzipFile(packed), 0),
        ):
            with opened:
                out = io.BytesIO()
                client.reconstruct(opened, out)
                assert out.getvalue() == film.read_bytes()
                assert not opened.closed
                assert scripted.requests[-1].film_size_bytes == size
        with film.open("rb") as opened:
            opened.seek(1_000_000)
            client.reconstruct(opened, io.BytesIO())
            assert scripted.requests[-1].film_size_bytes == 2_000_000


def test_latents_are_saved_with_their_times_and_their_model(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    with refilm.Client(scripted.address) as client:
        client.reconstruct(film, io.BytesIO(), latents=tmp_path / "l.npz")
        client.reconstruct(film, io.BytesIO(), latents=tmp_path / "l.npy")
        with pytest.raises(ValueError, match=r"\.npy or \.npz, not as 'l\.txt'"):
            client.reconstruct(film, io.BytesIO(), latents=tmp_path / "l.txt")

    saved = np.load(tmp_path / "l.npz")
    rows = len(saved["pts"])
    assert rows >= 6 and rows % 2 == 0
    assert saved["latents"].shape == (rows, 200) and saved["latents"].dtype == np.float32
    assert saved["latents"][:4, 0].tolist() == [0.25, 0.5, 1.25, 1.5]
    assert saved["pts"][:4].tolist() == [0, 1, 1, 2]
    assert saved["time_base"].tolist() == [1, 24]
    assert (str(saved["model"]), int(saved["version"])) == ("pca", 2)
    assert str(saved["digest"]) == IDENTITY.digest
    np.testing.assert_array_equal(np.load(tmp_path / "l.npy"), saved["latents"])
    assert names(tmp_path) == {"film.mkv", "l.npy", "l.npz"}


def breaks_off(requests: Requests, context: grpc.ServicerContext) -> Responses:
    yield response(film=FACTS)
    yield response(chunk=b"what could be made of it")
    yield response(latents=pb.LatentBatch(pts=[7], values=[1.5] * 200))
    for _ in requests:
        pass
    context.abort_with_status(
        rich(
            grpc.StatusCode.DATA_LOSS,
            "the film breaks off after 12 frames",
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
        yield response(film=FACTS)
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
    scripted.on_reconstruct = lambda requests, context: iter([response(film=FACTS)])
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


def test_nothing_is_sent_where_the_output_cannot_be_written(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    with refilm.Client(scripted.address) as client:
        with pytest.raises(FileNotFoundError):
            client.reconstruct(film, tmp_path / "nowhere" / "out.mp4")
        with pytest.raises(IsADirectoryError):
            client.reconstruct(film, tmp_path)
        with pytest.raises(ValueError, match="is the film itself"):
            client.reconstruct(film, film)
        with pytest.raises(FileNotFoundError):
            client.reconstruct(tmp_path / "no.mkv", tmp_path / "out.mp4")
        with pytest.raises(ValueError, match="layout is one of"):
            client.reconstruct(film, tmp_path / "out.mp4", layout="upside_down")  # type: ignore[arg-type]
    assert scripted.requests == []
    assert names(tmp_path) == {"film.mkv"}


def test_the_stream_form_yields_everything_in_its_order(
    scripted: ScriptedService, film: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    with refilm.Client(scripted.address) as client:
        events = list(client.reconstruct_stream(film, latents=True))
    kinds = [type(event).__name__ for event in events]
    assert kinds[:4] == ["FilmFacts", "bytes", "Progress", "LatentBatch"]
    assert kinds[-1] == "Reconstruction"
    assert b"".join(event for event in events if isinstance(event, bytes)) == film.read_bytes()
    batch = next(event for event in events if isinstance(event, refilm.LatentBatch))
    assert batch.pts == (0, 1)
    assert batch.latents.shape == (2, 200)


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
        yield response(film=FACTS)
        yield response(chunk=b"some")
        yield response(progress=pb.ReconstructVideoProgress(frames_written=1))
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
        yield response(film=FACTS)
        yield response(chunk=b"some")
        yield response(progress=pb.ReconstructVideoProgress(frames_written=1))
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
