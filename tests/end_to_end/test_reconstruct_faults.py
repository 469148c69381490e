"""Bad input gets a clear error, nothing is lost, and the service goes on serving."""

import io
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import grpc
import pytest
from google.rpc import error_details_pb2
from refilm.v1 import autoencoder_pb2 as pb

from film.image import encode_image
from tests.film.clips import Clip, Track, make_clip, picture
from tests.support.reconstruct import Answer, call, read_film, reconstruct

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNKNOWN: Any = 99
"""No value of an enum."""
SETTINGS = pb.ReconstructVideoRequest(settings=pb.ReconstructVideoSettings())


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, frames=72, sound=[Track()], movflags="faststart")


@pytest.fixture(autouse=True)
def still_serving(channel: grpc.Channel, clip: Clip) -> Iterator[None]:
    """After each of these, a healthy film still comes through."""
    yield
    assert reconstruct(channel, clip.path).summary is not None


def chunk(data: bytes) -> pb.ReconstructVideoRequest:
    return pb.ReconstructVideoRequest(chunk=data)


def refused(answer: Answer, field: str, reason: str) -> None:
    assert answer.code is INVALID, answer.error
    assert answer.fields == [field]
    assert answer.reason == reason
    assert answer.output == b"" and answer.summary is None


@pytest.mark.parametrize(
    ("messages", "field", "reason"),
    [
        ([], "settings", "EMPTY_STREAM"),
        ([chunk(b"film")], "settings", "SETTINGS_REQUIRED"),
        ([pb.ReconstructVideoRequest()], "settings", "SETTINGS_REQUIRED"),
        ([SETTINGS, SETTINGS], "settings", "SETTINGS_REPEATED"),
        ([SETTINGS, pb.ReconstructVideoRequest()], "chunk", "CHUNK_REQUIRED"),
        ([SETTINGS, chunk(b"")], "chunk", "INVALID_CHUNK_SIZE"),
        ([SETTINGS, chunk(bytes(2**20 + 1))], "chunk", "INVALID_CHUNK_SIZE"),
        ([SETTINGS], "chunk", "EMPTY_FILM"),
        (
            [
                pb.ReconstructVideoRequest(
                    settings=pb.ReconstructVideoSettings(
                        rendition=pb.RenditionSettings(layout=UNKNOWN)
                    )
                )
            ],
            "settings.rendition.layout",
            "INVALID_SETTING",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_stream_that_breaks_the_contract_is_refused(
    messages: list[pb.ReconstructVideoRequest], field: str, reason: str, channel: grpc.Channel
) -> None:
    refused(call(channel, messages), field, reason)


def test_what_is_no_film_is_refused(channel: grpc.Channel) -> None:
    refused(reconstruct(channel, b"not a film at all " * 5000), "chunk", "NOT_A_FILM")


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_still_picture_is_refused(format: Any, channel: grpc.Channel) -> None:
    image = encode_image(picture(1), format)
    refused(reconstruct(channel, image), "chunk", "NO_MOVING_PICTURE")


def test_sound_only_is_refused(channel: grpc.Channel, tmp_path: Path) -> None:
    sounding = make_clip(tmp_path / "both.mp4", frames=24, sound=[Track()])
    with av.open(sounding.path) as source, av.open(tmp_path / "sound.mp4", "w") as output:
        track = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = track
                output.mux(packet)
    answer = reconstruct(channel, tmp_path / "sound.mp4")
    refused(answer, "chunk", "NO_MOVING_PICTURE")


def test_a_cover_picture_is_not_a_film(channel: grpc.Channel) -> None:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    refused(reconstruct(channel, sound.getvalue()), "chunk", "NO_MOVING_PICTURE")


def test_a_film_of_which_nothing_can_be_decoded_is_refused(
    channel: grpc.Channel, clip: Clip
) -> None:
    film = bytearray(clip.path.read_bytes())
    payload = film.index(b"mdat") + 4
    film[payload:] = bytes(len(film) - payload)
    refused(reconstruct(channel, bytes(film)), "chunk", "FILM_DAMAGED")


def test_pictures_that_would_be_a_bomb_are_refused(channel: grpc.Channel, tmp_path: Path) -> None:
    # A few KB of H.264 whose pictures are 50 MB each.
    bomb = make_clip(tmp_path / "bomb.mp4", size=(8192, 4096), frames=1)
    answer = reconstruct(channel, bomb.path)
    assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED, answer.error
    assert answer.reason == "FILM_LIMIT_PICTURE_PIXELS"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_film_that_is_truncated_is_delivered_as_far_as_it_goes(
    suffix: str, channel: grpc.Channel, tmp_path: Path
) -> None:
    whole = make_clip(
        tmp_path / f"whole{suffix}",
        frames=120,
        sound=[Track()],
        movflags="faststart" if suffix == ".mp4" else "",
    )
    film = whole.path.read_bytes()

    answer = reconstruct(channel, film[: len(film) * 2 // 3], film_size_bytes=len(film))

    assert answer.code is grpc.StatusCode.DATA_LOSS
    assert answer.reason == "FILM_TRUNCATED"
    assert answer.summary is None
    output = read_film(answer.output)
    assert 40 < len(output.times) < 120
    assert answer.progress[-1].frames_written == len(output.times)
    info = answer.detail(error_details_pb2.ErrorInfo)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert int(info.metadata["frames"]) == len(output.times)
    # Without its last packets, a film with B-frames misses a picture among the last ones too.
    source = read_film(whole.path)
    assert {time + source.times[0] - output.times[0] for time in output.times} <= set(source.times)


def test_a_truncated_mp4_is_noticed_without_an_announced_size(
    channel: grpc.Channel, clip: Clip
) -> None:
    film = clip.path.read_bytes()

    answer = reconstruct(channel, film[: len(film) // 2])

    assert (answer.code, answer.reason) == (grpc.StatusCode.DATA_LOSS, "FILM_TRUNCATED")
    assert len(read_film(answer.output).times) > 10


def test_a_film_that_looks_whole_but_is_shorter_than_announced_is_data_loss(
    channel: grpc.Channel, clip: Clip
) -> None:
    answer = reconstruct(channel, clip.path, film_size_bytes=clip.path.stat().st_size + 1)

    assert (answer.code, answer.reason) == (grpc.StatusCode.DATA_LOSS, "FILM_TRUNCATED")
    assert len(read_film(answer.output).times) == 72


def test_more_bytes_than_announced_are_refused(channel: grpc.Channel, clip: Clip) -> None:
    answer = reconstruct(channel, clip.path, film_size_bytes=clip.path.stat().st_size - 1)

    assert answer.code is INVALID
    assert answer.fields == ["settings.film_size_bytes"]
    assert answer.reason == "FILM_SIZE_MISMATCH"
