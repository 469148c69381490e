"""Output begins before the film has ended, and neither side ever waits for the other in vain."""

import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import grpc
import pytest
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc

from tests.film.clips import Track, make_clip
from tests.support.reconstruct import Answer, read_film, reconstruct, requests

WAIT_SECONDS = 60.0

ARRIVING = {
    "index-in-front.mp4": {"movflags": "faststart"},
    "fragmented.mp4": {"movflags": "frag_keyframe+empty_moov+delay_moov"},
    "film.mkv": {},
    "film.ts": {},
}


@pytest.mark.parametrize("name", ARRIVING)
def test_the_output_plays_while_the_film_still_arrives(
    name: str, channel: grpc.Channel, tmp_path: Path
) -> None:
    clip = make_clip(
        tmp_path / name,
        size=(640, 360),
        frames=480,
        sound=[Track()],
        movflags=str(ARRIVING[name].get("movflags", "")),
    )
    film = clip.path.read_bytes()
    plays = threading.Event()

    def half_then_the_rest() -> Iterator[pb.ReconstructVideoRequest]:
        yield from requests(film[: len(film) // 2])
        assert plays.wait(WAIT_SECONDS), "nothing playable came for half of the film"
        yield from list(requests(film[len(film) // 2 :]))[1:]

    answer = Answer()
    stub = pb_grpc.AutoencoderServiceStub(channel)
    frames_at_half = 0
    for response in stub.ReconstructVideo(half_then_the_rest(), timeout=2 * WAIT_SECONDS):
        if answer.take(response) == "chunk" and not plays.is_set():
            frames_at_half = _playable_frames(answer.output)
            if frames_at_half:
                plays.set()

    assert frames_at_half > 0
    assert answer.summary is not None and answer.summary.frames == 480
    assert len(read_film(answer.output, pictures=False).times) == 480


def _playable_frames(beginning: bytes) -> int:
    """Count the frames of a beginning that a player can show."""
    try:
        return len(read_film(beginning, pictures=False).times)
    except av.FFmpegError:
        return 0


def test_a_caller_who_writes_everything_before_reading_does_not_deadlock(
    channel: grpc.Channel, example_film: Path
) -> None:
    # Far more than gRPC's windows hold, on both sides.
    film = example_film.read_bytes() + _padding(24 * 2**20)
    written = threading.Event()

    def everything() -> Iterator[pb.ReconstructVideoRequest]:
        yield from requests(film)
        written.set()

    stub = pb_grpc.AutoencoderServiceStub(channel)
    call = stub.ReconstructVideo(everything(), timeout=2 * WAIT_SECONDS)
    assert written.wait(WAIT_SECONDS), "the service does not take the film while nobody reads"
    answer = Answer()
    for response in call:
        answer.take(response)

    assert answer.summary is not None
    assert answer.summary.received_bytes == len(film)
    assert len(read_film(answer.output, pictures=False).times) == answer.summary.frames == 1440


def _padding(size: int) -> bytes:
    """Return an MP4 box that players skip."""
    return struct.pack(">I4s", size, b"free") + bytes(size - 8)


def test_one_byte_chunks_make_the_same_film(channel: grpc.Channel, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "small.mp4", size=(64, 36), frames=6)
    film = clip.path.read_bytes()[:20_000]
    settings = pb.ReconstructVideoRequest(settings=pb.ReconstructVideoSettings())

    from tests.support.reconstruct import call

    whole = reconstruct(channel, film)
    bytewise = call(
        channel,
        [settings, *(pb.ReconstructVideoRequest(chunk=film[i : i + 1]) for i in range(len(film)))],
    )

    assert bytewise.error is None and whole.error is None
    assert bytewise.output == whole.output
