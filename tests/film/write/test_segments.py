"""Segments: the same film as one written in one piece, and whole at every seam."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import film.write.segment_writer
from film.errors import FilmLimitError
from film.output import Layout, OutputSettings, Quality, Size
from film.read.film_reader import FilmReader
from film.read.scaling import Scaler
from film.segments import ReadingPoint, Segment, SegmentPlan
from film.write.segment_writer import SegmentWriter
from tests.film.clips import Track, make_clip, number_of
from tests.film.outputs import Output, batch, facts, reconstruct
from tests.film.segmented import Run, run, shorten

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 23 seconds of a real film."""
    film = Path(__file__).parents[3] / "examples/films/big_buck_bunny_60s.mp4"
    beginning = tmp_path_factory.mktemp("film") / "beginning.mp4"
    with av.open(film) as source, av.open(beginning, "w") as target:
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.size and packet.pts * packet.time_base < 23:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    return beginning


@pytest.fixture(scope="module")
def example(path: Path) -> Run:
    """The same in segments."""
    return run(path, size=32)


@pytest.fixture(scope="module")
def in_one_piece(path: Path) -> Output:
    return reconstruct(path, batch=32)


@given(
    time_base=st.fractions(min_value=Fraction(1, 10**6), max_value=1, max_denominator=10**6),
    start=st.integers(-(10**6), 10**9),
    steps=st.lists(st.integers(1, 10**6), max_size=100),
    data=st.data(),
)
def test_where_segments_begin_follows_from_times_alone(
    time_base: Fraction, start: int, steps: list[int], data: st.DataObject
) -> None:
    times = np.cumsum([start, *steps]).tolist()
    plan = SegmentPlan(time_base)
    begins = [time for time in times if plan.begins(time)]

    assert begins[0] == start
    for number, (one, other) in enumerate(pairwise(begins)):
        last = max(time for time in times if time < other)
        length = 2 if number == 0 else 10
        assert (last - one) * time_base < length <= (other - one) * time_base
    # A reader that goes on with any of them finds the same.
    again = data.draw(st.integers(0, len(begins) - 1))
    rest = SegmentPlan(time_base, finished=again)
    assert [t for t in times if t >= begins[again] and rest.begins(t)] == begins[again:]


def test_a_real_film_is_as_if_written_in_one_piece(example: Run, in_one_piece: Output) -> None:
    joined = example.output()

    assert [segment.number for segment in example.segments] == [1, 2, 3, 4]
    assert [segment.frames for segment in example.segments] == [48, 240, 240, 24]
    assert example.init is not None and in_one_piece.data.startswith(example.init)
    assert times_of(joined) == times_of(in_one_piece)
    assert joined.sound() == in_one_piece.sound()
    assert not joined.warnings


def test_points_tell_how_far_the_film_is(example: Run) -> None:
    points = [segment.resume for segment in example.segments]

    assert [point.segments for point in points] == [1, 2, 3, 4]
    assert [point.frames for point in points] == [48, 288, 528, 552]
    assert [float(point.position) for point in points] == pytest.approx([2, 12, 22, 23], abs=1e-4)
    assert [point.ended for point in points] == [False, False, False, True]


def test_every_segment_plays_by_itself_behind_the_header(example: Run) -> None:
    assert example.init is not None
    for segment in example.segments:
        with av.open(BytesIO(example.init + segment.data), "r") as container:
            frames = list(container.decode(video=0))
        assert len(frames) == segment.frames
        assert frames[0].key_frame
        assert frames[0].time == pytest.approx(float(segment.first_pts * example.facts.time_base))


def test_fragments_are_numbered_and_timed_through_all_segments(example: Run) -> None:
    fragments = [f for data in example.data for f in fragments_of(data)]

    assert [number for number, _ in fragments] == list(range(1, len(fragments) + 1))
    for track in (1, 2):
        times = [times[track] for _, times in fragments if track in times]
        assert times == sorted(set(times))


def fragments_of(data: bytes) -> Iterator[tuple[int, dict[int, int]]]:
    """Yield each fragment's number, and by track the time that it begins with."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        moof = data[at : at + size]
        if kind == b"moof":
            (number,) = struct.unpack_from(">I", moof, moof.index(b"mfhd") + 8)
            times = {}
            for traf in moof.split(b"traf")[1:]:
                (track,) = struct.unpack_from(">I", traf, traf.index(b"tfhd") + 8)
                (times[track],) = struct.unpack_from(">Q", traf, traf.index(b"tfdt") + 8)
            yield number, times
        at += size


def test_the_picture_does_not_flicker_at_a_seam(
    path: Path, example: Run, in_one_piece: Output
) -> None:
    with path.open("rb") as file, FilmReader(file) as reader:
        source = np.concatenate([part.frames for part in reader.batches(64)])
    gained = likeness(example.output(), source) - likeness(in_one_piece, source)

    for seam in (48, 288, 528):
        assert gained[seam - 8 : seam + 8].min() > -0.4, "dB"


def likeness(output: Output, source: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each picture, in dB."""
    scaler = Scaler(256, 144)
    values = []
    with output.open() as container:
        for frame, expected in zip(container.decode(video=0), source, strict=True):
            error = np.square(scaler.scale(frame).astype(float) - expected).mean()
            values.append(10 * np.log10(255**2 / max(error, 1e-9)))
    return np.array(values)


LARGE = OutputSettings(layout=Layout.SIDE_BY_SIDE, size=Size.SOURCE, quality=Quality.DRAFT)
TS = {"container": "mpegts"}


@pytest.mark.parametrize(
    ("name", "settings", "options"),
    [
        pytest.param("a.mp4", OutputSettings(), {"sound": [Track()]}, id="AAC"),
        pytest.param("a.ts", OutputSettings(), TS | {"sound": [Track()]}, id="AAC with ADTS"),
        pytest.param("a.mkv", OutputSettings(), {"sound": [Track("libopus")]}, id="Opus"),
        pytest.param("a.mkv", OutputSettings(), {"sound": [Track("flac")]}, id="FLAC"),
        pytest.param("a.avi", OutputSettings(), {"sound": [Track("libmp3lame")]}, id="MP3"),
        pytest.param("a.ts", OutputSettings(), TS | {"sound": [Track("mp2")]}, id="MP2"),
        pytest.param(
            "a.mov", OutputSettings(), {"sound": [Track("pcm_s16le", 44100)]}, id="PCM"
        ),
        pytest.param(
            "a.mkv", OutputSettings(), {"sound": [Track("ac3"), Track(), Track("flac")]}, id="three"
        ),
        pytest.param("a.mov", OutputSettings(), {"sound": [Track(start=0.7)]}, id="late sound"),
        pytest.param(
            "a.mp4",
            OutputSettings(),
            {"sound": [Track()], "pts": range(36, 84), "frames": 48},
            id="late picture",
        ),
        pytest.param(
            "a.ts",
            OutputSettings(),
            TS | {"sound": [Track()], "container_options": {"output_ts_offset": "5000.123"}},
            id="starts late",
        ),
        pytest.param(
            "a.mkv",
            OutputSettings(),
            {"pts": np.cumsum([1, 40, 5, 260, 700, 90, 3] * 3).tolist(),
             "time_base": Fraction(1, 1000)},
            id="variable rate",
        ),
        pytest.param("a.mp4", OutputSettings(sound=False), {"sound": [Track()]}, id="no sound"),
        pytest.param("a.mp4", LARGE, {"sound": [Track()]}, id="side by side"),
    ],
)  # fmt: skip
def test_what_is_promised_of_a_written_film_holds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    settings: OutputSettings,
    options: dict[str, Any],
) -> None:
    shorten(monkeypatch)
    clip = make_clip(tmp_path / name, **({"frames": 48} | options))

    whole, made = reconstruct(clip.path, settings), run(clip.path, settings)
    joined = made.output()

    assert len(made.segments) >= 5
    assert times_of(joined) == times_of(whole)
    assert joined.origin == whole.origin
    assert joined.warnings == whole.warnings
    with whole.open() as one, joined.open() as other:
        assert other.duration == one.duration
        tracks = len(one.streams.audio)
        assert len(other.streams.audio) == tracks
        numbers = [
            number_of(f.to_ndarray(format="rgb24")[:, : f.width // (2 if settings is LARGE else 1)])
            for f in other.decode(video=0)
        ]
    assert numbers == list(range(clip.frames))
    for track in range(tracks):
        assert joined.sound(track) == whole.sound(track)


def times_of(output: Output) -> list[tuple[Fraction, Fraction]]:
    return [(each.time, each.duration) for each in output.pictures()]


def test_sound_that_ends_early_holds_nothing_back(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=24 * 20, sound=[Track()])
    whole: list[Segment] = []
    with clip.path.open("rb") as file, FilmReader(file, segmented=True) as reader:
        writer = SegmentWriter(reader.facts, reader.sound_streams, OutputSettings())
        taken = 0
        for part in reader.batches(12):
            taken += len(part.pts)
            part.sound = part.sound if taken < 30 else []
            whole += writer.write(part, part.frames)
            assert len(whole) >= (taken >= 24 * 5 + 12) + (taken >= 24 * 15 + 12)
        whole += writer.close()

    assert [segment.frames for segment in whole] == [48, 240, 192]


def test_sound_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film.write.segment_writer, "_MAX_SOUND_AHEAD", 20_000)
    clip = make_clip(tmp_path / "clip.mp4", frames=24 * 4, sound=[Track()])
    with clip.path.open("rb") as file, FilmReader(file, segmented=True) as reader:
        parts = list(reader.batches(24))
        writer = SegmentWriter(reader.facts, reader.sound_streams, OutputSettings())
        parts[0].sound = [packet for part in parts for packet in part.sound]
        with pytest.raises(FilmLimitError, match="20000 bytes of sound"):
            writer.write(parts[0], parts[0].frames)
        with pytest.raises(ValueError, match="ended"):
            writer.write(parts[1], parts[1].frames)


def test_a_film_without_pictures_has_no_segment() -> None:
    writer = SegmentWriter(facts(), (), OutputSettings())
    assert writer.write(batch([]), batch([]).frames) == []
    assert writer.close() == [] and writer.init is None


def test_a_reader_that_is_not_segmented_is_noticed() -> None:
    writer = SegmentWriter(facts(), (), OutputSettings())
    with pytest.raises(ValueError, match="segmented"):
        writer.write(batch([0]), batch([0]).frames)


def test_decoded_must_match_the_batch() -> None:
    writer = SegmentWriter(facts(), (), OutputSettings())
    part = batch(range(3))
    part.reading = ReadingPoint(0, 0)
    with pytest.raises(ValueError, match="3 frames in the film, 2 decoded"):
        writer.write(part, part.frames[:2])
