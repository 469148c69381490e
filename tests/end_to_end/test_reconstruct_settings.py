"""What a caller can ask of a reconstruction, and what comes back of it."""

import hashlib
from fractions import Fraction
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from refilm.v1 import autoencoder_pb2 as pb

from film.read.film_reader import FilmReader
from tests.film.clips import Clip, Track, make_clip, number_of
from tests.support.messages import LOOK, model_of, selector
from tests.support.reconstruct import read_film, reconstruct


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, size=(640, 360), frames=40, sound=[Track()], movflags="faststart")


def model_frames(path: Path) -> NDArray[np.uint8]:
    with path.open("rb") as file, FilmReader(file) as reader:
        return np.concatenate([batch.frames for batch in reader.batches(16)])


def test_pictures_and_latents_are_those_of_the_published_model(
    channel: grpc.Channel, model_repository: Path, clip: Clip
) -> None:
    answer = reconstruct(channel, clip.path, LOOK(quality=LOOK.QUALITY_HIGH), include_latents=True)

    assert answer.error is None and answer.film is not None and answer.made is not None
    _, version = model_of(answer.made.model)
    frames = torch.from_numpy(model_frames(clip.path))
    with torch.inference_mode():
        halves = [
            torch.jit.load(folder / str(version) / "model.pt")
            for folder in (model_repository / "pca_encoder", model_repository / "pca_decoder")
        ]
        latents, _ = halves[0](frames)
        pictures_made, _ = halves[1](latents)
        decoded = pictures_made.numpy()
    time_base = Fraction(answer.film.time_base.numerator, answer.film.time_base.denominator)
    assert [pts * time_base for pts in answer.pts] == [pts * clip.time_base for pts in clip.pts]
    got = np.array(answer.latents, np.float32).reshape(-1, 200)
    np.testing.assert_allclose(got, latents.numpy(), atol=1e-4 * float(latents.abs().max()))
    pictures = np.stack(read_film(answer.output).pictures)
    assert pictures.shape == decoded.shape
    # H.264 loses a little at this quality; another picture, or another matrix, is far off.
    assert np.abs(pictures.astype(float) - decoded).mean() < 3


def test_facts_come_first_then_everything_else_then_the_summary(
    channel: grpc.Channel, clip: Clip
) -> None:
    answer = reconstruct(channel, clip.path, film_size_bytes=clip.path.stat().st_size)

    assert answer.error is None
    assert answer.order[0] == "facts" and answer.order[-1] == "summary"
    assert answer.film is not None and answer.made is not None and answer.summary is not None
    assert (answer.film.container, answer.film.video_codec) == ("mp4", "h264")
    assert (answer.film.width, answer.film.height) == (640, 360)
    assert (answer.made.width, answer.made.height) == (256, 144)
    assert list(answer.made.sound_track_actions) == [pb.SOUND_TRACK_ACTION_COPIED]
    assert answer.made.model.digest.startswith("sha256:")
    assert answer.pts == []
    summary, film = answer.summary, clip.path.read_bytes()
    assert summary.frames == 40
    assert Fraction(summary.duration.ToNanoseconds(), 10**9) == pytest.approx(40 / 24, abs=1e-6)
    assert summary.received_bytes == len(film)
    assert summary.sent_bytes == len(answer.output)
    assert summary.film_digest == f"sha256:{hashlib.sha256(film).hexdigest()}"
    assert summary.model == answer.made.model
    for stage in ("read", "encode", "decode", "write"):
        assert getattr(summary.stage_times, stage).ToNanoseconds() > 0
    last = answer.progress[-1]
    assert last.frames_decoded == last.frames_reconstructed == last.frames_written == 40


def test_side_by_side_shows_the_source_on_the_left(channel: grpc.Channel, clip: Clip) -> None:
    answer = reconstruct(
        channel,
        clip.path,
        LOOK(
            layout=LOOK.LAYOUT_SIDE_BY_SIDE,
            picture_size=LOOK.PICTURE_SIZE_SOURCE,
            quality=LOOK.QUALITY_HIGH,
        ),
    )

    assert answer.error is None and answer.made is not None
    assert (answer.made.width, answer.made.height) == (1280, 360)
    output, source = read_film(answer.output), read_film(clip.path)
    assert len(output.pictures) == 40
    for made, original in zip(output.pictures, source.pictures, strict=True):
        assert made.shape == (360, 1280, 3)
        assert number_of(made[:, :640]) == number_of(original)
        assert np.abs(made[:, :640].astype(float) - original).mean() < 4


def test_without_sound_there_is_dropped(channel: grpc.Channel, clip: Clip) -> None:
    answer = reconstruct(channel, clip.path, LOOK(sound=LOOK.SOUND_NONE))

    assert answer.error is None and answer.made is not None
    assert list(answer.made.sound_track_actions) == [pb.SOUND_TRACK_ACTION_DROPPED]
    assert read_film(answer.output).sounds == []


def test_a_draft_is_smaller_than_high_quality(channel: grpc.Channel, clip: Clip) -> None:
    sizes = [
        len(reconstruct(channel, clip.path, LOOK(quality=quality, sound=LOOK.SOUND_NONE)).output)
        for quality in (LOOK.QUALITY_DRAFT, LOOK.QUALITY_STANDARD, LOOK.QUALITY_HIGH)
    ]

    assert sizes == sorted(sizes) and len(set(sizes)) == 3


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_film_comes_back_upright(
    rotation: int, channel: grpc.Channel, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "turned.mp4", size=(320, 240), frames=8, rotation=rotation)

    answer = reconstruct(
        channel,
        clip.path,
        LOOK(layout=LOOK.LAYOUT_SIDE_BY_SIDE, picture_size=LOOK.PICTURE_SIZE_SOURCE),
    )

    assert answer.error is None and answer.film is not None
    assert answer.film.rotation_degrees == rotation
    width, height = (320, 240) if rotation == 180 else (240, 320)
    assert (answer.made.width, answer.made.height) == (2 * width, height)
    source, output = read_film(clip.path), read_film(answer.output)
    for made, original in zip(output.pictures, source.pictures, strict=True):
        upright = np.rot90(original, -rotation // 90)
        assert np.abs(made[:, :width].astype(float) - upright).mean() < 4


def test_one_version_can_be_asked_for_and_an_unknown_one_is_not_found(
    channel: grpc.Channel, clip: Clip
) -> None:
    known = reconstruct(channel, clip.path, model=selector(version=1))
    unknown = reconstruct(channel, clip.path, model=selector(version=999))

    assert known.made is not None and model_of(known.made.model)[1] == 1
    assert unknown.code.name == "NOT_FOUND"
