"""What a reader gives: facts, times, pictures, sound, within limits."""

import gc
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from film.errors import FilmError, FilmLimitError
from film.facts import FilmFacts, SoundAction
from film.limits import ReadLimits
from film.read.film_reader import FilmReader
from film.read.scaling import to_model_frame
from tests.film.clips import Clip, Colour, Track, make_clip, number_of, picture
from tests.film.format_clips import MAKERS


def read(path: Path, **options: Any) -> tuple[FilmFacts, NDArray[np.uint8], list[int], int]:
    """Read a film whole: facts, model frames, times, number of sound packets."""
    with path.open("rb") as file, FilmReader(file, **options) as reader:
        batches = list(reader.batches(7))
    frames = np.concatenate([batch.frames for batch in batches])
    pts = [int(time) for batch in batches for time in batch.pts]
    return reader.facts, frames, pts, sum(len(batch.sound) for batch in batches)


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def test_facts(tmp_path: Path) -> None:
    sound = [Track(language="eng"), Track("ac3", rate=44100, channels=1, language="fra")]
    clip = make_clip(tmp_path / "a.mp4", sound=sound, sar=Fraction(4, 3), rotation=90, rate=25)
    facts = read(clip.path)[0]
    assert (facts.container, facts.video_codec) == ("mp4", "h264")
    assert (facts.width, facts.height, facts.rotation) == (320, 180, 90)
    assert facts.sample_aspect_ratio == Fraction(4, 3)
    assert facts.display_size == (180, 426)
    assert facts.average_frame_rate == 25
    assert facts.duration == Fraction(24, 25)
    assert facts.estimated_frames == 24
    assert not facts.interlaced
    assert not facts.tone_mapped
    assert facts.bit_depth == 8
    first, second = facts.sound_tracks
    assert (first.codec, first.sample_rate, first.channels) == ("aac", 48000, 2)
    assert (first.language, first.action) == ("eng", SoundAction.COPY)
    assert (second.codec, second.sample_rate, second.channels) == ("ac3", 44100, 1)
    assert (second.language, second.action) == ("fra", SoundAction.TRANSCODE)


def test_every_picture_keeps_its_own_time_and_place(tmp_path: Path) -> None:
    times = [0, 40, 45, 300, 301, 1000, 5000]
    clip = make_clip(tmp_path / "a.mkv", pts=times, time_base=Fraction(1, 1000))
    facts, frames, pts, _ = read(clip.path)
    assert facts.time_base == Fraction(1, 1000)
    assert pts == times
    assert [number_of(frame) for frame in frames] == list(range(len(times)))


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.integers(1, 5000), min_size=1, max_size=30))
def test_any_times_come_out_as_they_went_in(steps: list[int], tmp_path: Path) -> None:
    times = [0, *(int(time) for time in np.cumsum(steps))]
    clip = make_clip(tmp_path / "a.mp4", pts=times, time_base=Fraction(1, 12800), size=(64, 36))
    facts, _, pts, _ = read(clip.path)
    assert [time * facts.time_base for time in pts] == [time * clip.time_base for time in times]


@pytest.mark.parametrize(
    ("rotation", "hflip", "turn"),
    [
        (90, False, lambda image: np.rot90(image, -1)),
        (180, False, lambda image: np.rot90(image, 2)),
        (270, False, lambda image: np.rot90(image, 1)),
        (0, True, lambda image: image[:, ::-1]),
    ],
)
def test_pictures_are_upright(rotation: int, hflip: bool, turn: object, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", rotation=rotation, hflip=hflip, frames=3)
    with (
        clip.path.open("rb") as file,
        FilmReader(file, picture_size=lambda facts: facts.display_size) as reader,
    ):
        (batch,) = reader.batches(3)
    shown = turn(picture(2))  # type: ignore[operator]
    assert difference(batch.frames[2], to_model_frame(np.ascontiguousarray(shown))) < 3
    assert batch.pictures is not None
    assert batch.pictures[2].shape == shown.shape
    assert difference(batch.pictures[2], shown) < 3


def _combing(image: NDArray[Any]) -> float:
    """Tell how much neighbouring lines differ more than lines two apart."""
    wide = image.astype(int)
    return float(
        np.abs(wide[1:-1] * 2 - wide[:-2] - wide[2:]).mean() - np.abs(wide[2:] - wide[:-2]).mean()
    )


@pytest.mark.parametrize("name", ["interlaced-mpeg2", "interlaced-h264"])
def test_interlaced_pictures_lose_their_combs_and_keep_their_times(
    name: str, tmp_path: Path
) -> None:
    path = MAKERS[name](tmp_path)
    with path.open("rb") as file, FilmReader(file, picture_size=(320, 180)) as reader:
        batches = list(reader.batches(5))
        assert reader.facts.interlaced
    pictures = [image for batch in batches for image in batch.pictures or []]
    with av.open(path, "r") as film:
        stored = list(film.decode(video=0))
    assert [int(time) for batch in batches for time in batch.pts] == [frame.pts for frame in stored]
    raw = np.mean([_combing(frame.to_ndarray(format="rgb24")[90:135]) for frame in stored[2:-2]])
    mended = np.mean([_combing(image[90:135]) for image in pictures[2:-2]])
    assert mended < raw / 3
    assert [number_of(image) for image in pictures] == list(range(24))


def test_progressive_pictures_are_left_alone_among_interlaced_ones(tmp_path: Path) -> None:
    joined = tmp_path / "joined.ts"
    later = [97_500 + 3750 * i for i in range(24)]
    parts = [
        make_clip(tmp_path / "0.ts", container="mpegts", interlaced=True),
        make_clip(tmp_path / "1.ts", container="mpegts", pts=later, time_base=Fraction(1, 90_000)),
    ]
    joined.write_bytes(b"".join(part.path.read_bytes() for part in parts))
    alone = read(parts[1].path)[1]
    mixed = read(joined)[1]
    assert len(mixed) == 48
    assert np.array_equal(mixed[24:], alone)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_grey_stays_grey_and_is_mapped_to_the_range_of_tones(
    transfer: int, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"codec": "ffv1", "pix_fmt": "yuv420p10le", "frames": 1}
    colour = Colour(matrix=9, primaries=9, transfer=transfer)
    hdr = make_clip(tmp_path / "hdr.mkv", colour=colour, **options)
    plain = make_clip(tmp_path / "sdr.mkv", colour=Colour(), **options)
    facts, mapped, _, _ = read(hdr.path)
    assert facts.tone_mapped
    assert facts.transfer == {16: "smpte2084", 18: "arib-std-b67"}[transfer]
    assert facts.bit_depth == 10
    unmapped = read(plain.path)[1]
    # The grey ground (96) at the right, between the bars: code value 96 of 255 is dark in HDR's
    # curve and lighter in SDR's, and it has no colour in either.
    ground = mapped[0, 135, 140:250].astype(int)
    assert np.ptp(ground.mean(axis=0)) <= 2
    assert difference(mapped[0], unmapped[0]) > 5
    # Red stays red.
    red = mapped[0, 54, 20:100].mean(axis=0)
    assert red[0] > 2 * red[1]
    assert red[0] > 2 * red[2]


@pytest.mark.parametrize(
    "colour",
    [Colour(), Colour(range=2), Colour(matrix=6, primaries=6, transfer=6), Colour(matrix=5)],
)
def test_tagged_colours_come_out_as_they_went_in(colour: Colour, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", colour=colour, codec="ffv1", frames=1)
    frame = read(clip.path)[1][0]
    assert np.abs(frame[54, 30:100].astype(int) - (200, 30, 30)).max() <= 3
    assert np.abs(frame[54, 150:250].astype(int) - (30, 160, 30)).max() <= 3


def test_sound_packets_come_whole_and_in_order(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", sound=[Track(), Track("libopus")], frames=72)
    with clip.path.open("rb") as file, FilmReader(file) as reader:
        sound = [packet for batch in reader.batches(10) for packet in batch.sound]
        given = [(p.stream_index, p.pts, bytes(p)) for p in sound]
        assert [stream.index for stream in reader.sound_streams] == [1, 2]
    with av.open(clip.path, "r") as film:
        held = [(p.stream_index, p.pts, bytes(p)) for p in film.demux(audio=(0, 1)) if p.size]
    assert given == held


def test_sound_that_is_not_wanted_is_dropped(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", sound=[Track()])
    facts, frames, _, sound = read(clip.path, sound=False)
    assert sound == 0
    assert len(frames) == 24
    assert [track.action for track in facts.sound_tracks] == [SoundAction.DROP]


def test_a_joined_film_keeps_the_offset_of_sound_and_picture(tmp_path: Path) -> None:
    path = MAKERS["clock-jumps-back"](tmp_path)
    with path.open("rb") as file, FilmReader(file) as reader:
        batches = list(reader.batches(16))
        base = reader.facts.time_base
    pts = np.concatenate([batch.pts for batch in batches]) * float(base)
    sound = np.array(
        [float(p.pts * p.time_base) for batch in batches for p in batch.sound if p.pts is not None]
    )
    assert np.allclose(np.diff(pts), 1 / 24, atol=1e-3)
    first, second = pts[72] - pts[0], sound[len(sound) // 2] - sound[0]
    assert first == pytest.approx(3.0, abs=0.001)
    assert second == pytest.approx(first, abs=0.05)


def test_limits(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv")
    for limits, message in (
        (ReadLimits(picture_pixels=320 * 180 - 1), "320 x 180 pixels"),
        (ReadLimits(pictures=10), "more than 10 pictures"),
        (ReadLimits(decoded_bytes=1_000_000), "more than 1000000 bytes"),
    ):
        count = 0
        with (
            pytest.raises(FilmLimitError, match=message),
            clip.path.open("rb") as file,
            FilmReader(file, limits=limits) as reader,
        ):
            for batch in reader.batches(4):
                count += len(batch.pts)
        assert count <= 12
    assert len(read(clip.path, limits=ReadLimits(pictures=24))[2]) == 24


def test_pictures_are_freed_as_they_are_read(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=96)
    gc.collect()
    gc.disable()
    try:
        with clip.path.open("rb") as file, FilmReader(file) as reader:
            for _ in reader.batches(96):
                alive = sum(isinstance(one, av.VideoFrame) for one in gc.get_objects())
    finally:
        gc.enable()
    assert alive < 32


def test_a_films_name_is_never_read(tmp_path: Path) -> None:
    """FFmpeg would open a playlist's files, or follow what a name asks for."""
    path = MAKERS["playlist"](tmp_path).rename(tmp_path / "a.m3u8")
    with pytest.raises(FilmError, match="playlist"):
        read(path)
    clip = make_clip(tmp_path / "film.mkv", frames=3)
    odd = clip.path.rename(tmp_path / "pictures%03d.m3u8")
    assert len(read(odd)[2]) == 3


@pytest.mark.parametrize(
    ("movflags", "seconds", "frames"),
    [("", 5, 120), ("faststart", 5, 120), ("frag_keyframe+empty_moov", None, None)],
)
def test_a_length_is_only_told_where_the_film_tells_it(
    tmp_path: Path, movflags: str, seconds: int | None, frames: int | None
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=120, movflags=movflags, options={"g": "24"})
    with clip.path.open("rb") as file, FilmReader(file) as reader:
        facts = reader.facts
        assert sum(len(batch.pts) for batch in reader.batches(32)) == 120
    assert (facts.duration, facts.estimated_frames) == (seconds, frames)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    names = ("mp4-h264", "mp4-fragmented", "mkv-h264", "ts-h264", "avi-mpeg4", "asf-msmpeg4")
    return {name: MAKERS[name](folder).read_bytes() for name in names}


@settings(deadline=None, max_examples=120)
@given(
    name=st.sampled_from(
        ["mp4-h264", "mp4-fragmented", "mkv-h264", "ts-h264", "avi-mpeg4", "asf-msmpeg4"]
    ),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=30),
    share=st.floats(0, 1),
)
def test_damaged_films_raise_film_errors_and_nothing_else(
    whole: dict[str, bytes], name: str, changes: list[tuple[float, int]], share: float
) -> None:
    data = bytearray(whole[name])
    for place, value in changes:
        data[min(len(data) - 1, int(place * len(data)))] = value
    times: list[int] = []
    try:
        with io.BytesIO(bytes(data[: int(len(data) * share)])) as file, FilmReader(file) as reader:
            for batch in reader.batches(8):
                times += batch.pts.tolist()
    except FilmError:
        pass
    assert np.all(np.diff(times) > 0)


def test_the_clip_is_what_it_says(tmp_path: Path) -> None:
    clip: Clip = make_clip(tmp_path / "a.mp4", frames=5)
    assert clip.frames == len(read(clip.path)[2]) == 5
