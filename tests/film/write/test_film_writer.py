"""What a written film shows: its pictures, at their times, in their shape and colours."""

import threading
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from film.facts import FilmFacts
from film.output import Layout, OutputSettings, Quality, Size, output_size, picture_size
from film.read.film_reader import FilmReader
from film.read.scaling import Scaler
from film.write.film_writer import FilmWriter
from film.write.muxer import MAX_DURATION
from tests.film.clips import Track, make_clip, number_of, picture
from tests.film.outputs import batch, facts, reconstruct, write


@pytest.mark.parametrize(
    ("time_base", "pts"),
    [
        pytest.param(Fraction(1, 24), range(30), id="constant"),
        pytest.param(Fraction(1001, 30000), range(30), id="numerator"),
        pytest.param(Fraction(1, 90000), range(0, 90000, 3003), id="mpeg"),
        pytest.param(Fraction(1, 1000), [0, 33, 67, 100, 4000, 4001, 9999], id="gaps"),
        pytest.param(Fraction(1, 1_000_000_000), [0, 1, 7 * 10**8, 2 * 10**9], id="nanoseconds"),
        pytest.param(Fraction(3, 2), [0, 1, 2, 5], id="long ticks"),
        pytest.param(Fraction(1, 24), range(86_400 * 24, 86_400 * 24 + 30), id="starts a day late"),
        pytest.param(Fraction(1, 1000), [-700, -300, 40, 80], id="starts before zero"),
        pytest.param(Fraction(1, 1000), [500, 540, 580], id="starts half a second late"),
    ],
)
def test_every_picture_keeps_its_time(time_base: Fraction, pts: list[int]) -> None:
    output = write(facts(time_base=time_base), [batch(pts)])

    assert [picture.time for picture in output.pictures()] == output.expected_times()
    start = pts[0] * time_base
    assert output.origin == (0 if 0 <= start < 1 else start)
    assert bool(output.warnings) == bool(output.origin)


@settings(max_examples=25, deadline=None)
@given(
    time_base=st.fractions(min_value=Fraction(1, 10**6), max_value=2, max_denominator=10**6),
    start=st.integers(-(10**6), 10**9),
    steps=st.lists(st.integers(1, 5000), max_size=12),
)
def test_any_times_are_kept_exactly(time_base: Fraction, start: int, steps: list[int]) -> None:
    pts = [start]
    for step in steps:
        pts.append(pts[-1] + step)

    # MP4 counts a picture's ticks in 31 bits; ticks are no finer than this.
    assume(max(steps, default=0) * time_base * max(time_base.denominator, 20_000) < MAX_DURATION)
    output = write(facts(time_base=time_base), [batch(pts)])

    shown = output.pictures()
    assert [each.time for each in shown] == output.expected_times()
    assert shown[0].time >= 0
    for one, other in pairwise(shown):
        assert one.time + one.duration == other.time


def test_a_picture_shown_for_longer_than_mp4_can_say_is_reported() -> None:
    time_base = Fraction(1_331_717, 927_512)

    output = write(facts(time_base=time_base), [batch([0, 5, 1618, 1622])])

    assert len(output.pictures()) == 4
    (warning,) = output.warnings
    assert "A picture at 7.179 s is shown for longer than MP4 can say" in warning


@pytest.mark.parametrize(
    ("durations", "rate", "expected"),
    [
        pytest.param([1] * 4 + [7], Fraction(24), Fraction(7, 24), id="told"),
        pytest.param([0] * 5, None, Fraction(1, 24), id="as the one before"),
    ],
)
def test_the_last_picture_is_shown_as_long_as_it_should(
    durations: list[int], rate: Fraction | None, expected: Fraction
) -> None:
    output = write(facts(rate=rate), [batch(range(5), durations)])

    assert output.pictures()[-1].duration == expected


def test_a_film_of_one_picture() -> None:
    output = write(facts(rate=Fraction(25)), [batch([0])])

    (only,) = output.pictures()
    assert only.time == 0 and only.duration == Fraction(1, 24)


def test_a_film_without_pictures_leaves_nothing() -> None:
    assert write(facts(), [batch([])]).data == b""


def test_pictures_are_the_right_ones_in_order() -> None:
    output = write(facts(), [batch(range(20)), batch(range(20, 60))])

    with output.open() as container:
        numbers = [number_of(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert numbers == list(range(60))


@pytest.mark.parametrize(
    ("film", "shape"),
    [
        pytest.param(facts(width=640, height=360), Fraction(16, 9), id="16:9"),
        pytest.param(facts(width=640, height=274), Fraction(640, 274), id="wide"),
        pytest.param(facts(width=161, height=121), Fraction(161, 121), id="odd"),
        pytest.param(facts(width=640, height=480, rotation=90), Fraction(3, 4), id="rotated"),
        pytest.param(facts(width=1280, height=1080, sar=Fraction(3, 2)), Fraction(16, 9), id="3:2"),
        pytest.param(
            facts(width=720, height=576, sar=Fraction(64, 45), rotation=270),
            Fraction(9, 16),
            id="anamorphic and rotated",
        ),
    ],
)
@pytest.mark.parametrize("layout", Layout)
def test_the_shape_comes_back(film: FilmFacts, shape: Fraction, layout: Layout) -> None:
    output = write(film, [batch([0, 1])], OutputSettings(layout=layout))

    with output.open() as container:
        stream = container.streams.video[0]
        pictures = 2 if layout is Layout.SIDE_BY_SIDE else 1
        assert (stream.width, stream.height) == (256 * pictures, 144)
        assert Fraction(256, 144) * stream.sample_aspect_ratio == shape


@pytest.mark.parametrize(
    ("film", "size"),
    [
        (facts(width=640, height=360), (640, 360)),
        (facts(width=161, height=121), (160, 120)),
        (facts(width=1280, height=1080, sar=Fraction(3, 2)), (1920, 1080)),
        (facts(width=640, height=480, rotation=90), (480, 640)),
        (facts(width=3840, height=2160), (1920, 1080)),
        (facts(width=2160, height=3840), (608, 1080)),
        (facts(width=4096, height=1716), (1920, 804)),
    ],
)
def test_size_source_is_the_displayed_size(film: FilmFacts, size: tuple[int, int]) -> None:
    single = OutputSettings(size=Size.SOURCE)
    beside = OutputSettings(size=Size.SOURCE, layout=Layout.SIDE_BY_SIDE)

    assert output_size(film, single) == size
    assert output_size(film, beside) == (2 * size[0], size[1])
    assert picture_size(film, single) is None
    assert picture_size(film, beside) == size


@pytest.mark.parametrize("size", Size)
def test_side_by_side_shows_source_left_and_reconstruction_right(
    tmp_path: Path, size: Size
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", size=(320, 180), frames=8)
    chosen = OutputSettings(layout=Layout.SIDE_BY_SIDE, size=size)
    chunks: list[bytes] = []
    with (
        clip.path.open("rb") as file,
        FilmReader(file, picture_size=lambda film: picture_size(film, chosen)) as reader,
        FilmWriter(chunks.append, reader.facts, (), chosen) as writer,
    ):
        for part in reader.batches(8):
            writer.write(part, np.stack([picture(900, 256, 144)] * len(part.frames)))

    with av.open(BytesIO(b"".join(chunks)), "r") as container:
        shown = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    half = shown[0].shape[1] // 2
    assert [number_of(image[:, :half]) for image in shown] == list(range(8))
    assert [number_of(image[:, half:]) for image in shown] == [900] * 8


COLOURS = [
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255),
    (255, 255, 255), (0, 0, 0), (200, 30, 30), (30, 160, 30), (30, 30, 200), (120, 60, 200),
]  # fmt: skip


@pytest.mark.parametrize("size", Size)
def test_saturated_colours_come_back(size: Size) -> None:
    patches = np.array(COLOURS, np.uint8).reshape(3, 4, 3).repeat(48, axis=0).repeat(64, axis=1)
    film = facts(width=640, height=360)
    part = batch(range(30), frames=np.stack([patches] * 30))

    output = write(film, [part], OutputSettings(quality=Quality.HIGH, size=size))

    with output.open() as container:
        shown = list(container.decode(video=0))
    # BT.709 and limited range; the scaler reads them by these tags.
    tags = [(f.colorspace, f.color_primaries, f.color_trc, f.color_range) for f in shown]
    assert set(tags) == {(1, 1, 1, 1)}
    scaler = Scaler(256, 144)
    for frame in (shown[0], shown[-1]):
        seen = scaler.scale(frame)[24::48, 32::64].reshape(-1, 3).astype(int)
        assert np.abs(seen - np.array(COLOURS)).max() <= 2


def test_the_header_tells_colours_to_players_that_do_not_look_into_the_pictures() -> None:
    output = write(facts(), [batch(range(5))])

    assert b"colrnclx\x00\x01\x00\x01\x00\x01\x00" in output.data


def test_the_same_frames_give_the_same_bytes() -> None:
    def made() -> bytes:
        return write(facts(width=1280, height=720), [batch(range(40))], large).data

    large = OutputSettings(size=Size.SOURCE)
    assert made() == made()


def test_bytes_leave_within_two_seconds_of_film() -> None:
    chunks: list[bytes] = []
    writer = FilmWriter(chunks.append, facts(), (), OutputSettings())
    for number in range(48):
        part = batch([number])
        writer.write(part, part.frames)
        if len(chunks) > 1:
            break

    assert len(chunks) > 1, "only the header left"
    # What is there already plays.
    with av.open(BytesIO(b"".join(chunks)), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) >= 10


def test_fragments_begin_with_key_frames_about_every_two_seconds() -> None:
    output = write(facts(), [batch(range(24 * 7))])

    keys = [each.time for each in output.pictures() if each.key]
    assert keys == [Fraction(0), Fraction(1, 2), Fraction(5, 2), Fraction(9, 2), Fraction(13, 2)]
    assert output.data.count(b"moof") == len(keys)


def test_the_header_tells_the_duration() -> None:
    known = write(facts(duration=Fraction(60)), [batch(range(5))])
    unknown = write(facts(duration=None), [batch(range(5))])

    assert b"mehd" in known.data and b"mehd" not in unknown.data


def test_nothing_gathers_while_a_film_goes_on() -> None:
    fragments: list[int] = []
    writer = FilmWriter(
        lambda chunk: fragments.append(chunk.count(b"moof")), facts(), (), OutputSettings()
    )
    for second in range(40):
        part = batch(range(second * 24, second * 24 + 24))
        writer.write(part, part.frames)
        assert second - 2 * sum(fragments) <= 3, "seconds of film are kept back"


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()])
def test_what_the_sink_raises_ends_the_writer(error: BaseException) -> None:
    calls: list[int] = []

    def sink(chunk: bytes) -> None:
        calls.append(len(chunk))
        if len(calls) == 3:
            raise error

    writer = FilmWriter(sink, facts(), (), OutputSettings())
    with pytest.raises(type(error)) as caught:
        for start in range(0, 24 * 20, 24):
            part = batch(range(start, start + 24))
            writer.write(part, part.frames)
    assert caught.value is error
    with pytest.raises(ValueError, match="ended"):
        writer.write(part, part.frames)
    writer.close()
    del writer

    assert len(calls) == 3


def test_the_sink_may_raise_at_the_very_end() -> None:
    def sink(chunk: bytes) -> None:
        raise OSError("gone")

    writer = FilmWriter(sink, facts(), (), OutputSettings())
    part = batch(range(3))
    writer.write(part, part.frames)
    with pytest.raises(OSError, match="gone"):
        writer.close()
    writer.close()


def test_a_sink_that_blocks_holds_the_writer_and_nothing_else() -> None:
    reached, go_on = threading.Event(), threading.Event()
    chunks: list[bytes] = []

    def sink(chunk: bytes) -> None:
        reached.set()
        assert go_on.wait(60)
        chunks.append(chunk)

    thread = threading.Thread(target=lambda: chunks.extend([write_all(sink)]))
    thread.start()
    assert reached.wait(60)
    assert thread.is_alive() and not chunks
    go_on.set()
    thread.join(60)
    assert not thread.is_alive() and b"mfra" in b"".join(chunks)


def write_all(sink: Callable[[bytes], None]) -> bytes:
    with FilmWriter(sink, facts(), (), OutputSettings()) as writer:
        part = batch(range(48))
        writer.write(part, part.frames)
    return b""


def test_after_an_exception_the_context_manager_gives_up() -> None:
    chunks: list[bytes] = []
    with (
        pytest.raises(RuntimeError),
        FilmWriter(chunks.append, facts(), (), OutputSettings()) as writer,
    ):
        part = batch(range(10))
        writer.write(part, part.frames)
        raise RuntimeError
    assert not chunks


def test_decoded_must_match_the_batch() -> None:
    writer = FilmWriter(lambda chunk: None, facts(), (), OutputSettings())
    part = batch(range(3))
    with pytest.raises(ValueError, match="3 frames in the film, 2 decoded"):
        writer.write(part, part.frames[:2])


def test_a_film_from_a_reader(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=60, sound=[Track()])

    output = reconstruct(clip.path)

    assert [each.time for each in output.pictures()] == [Fraction(n, 24) for n in range(60)]
    with output.open() as container:
        assert abs(Fraction(container.duration, 10**6) - Fraction(60, 24)) < Fraction(1, 24)
