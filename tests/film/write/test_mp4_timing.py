"""Times in an MP4: what `place` moves, it moves exactly."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from film.write.mp4_timing import Placement, movie_timescale, origin_of, place

RATES = st.sampled_from([1000, 24000, 30000, 44100, 48000, 90000])


@given(
    first=st.integers(-200_000, 2_000_000),
    priming=st.integers(0, 5000),
    timescale=RATES,
    movie=RATES,
    whole_seconds=st.integers(-3, 20),
)
def test_every_time_is_kept(
    first: int, priming: int, timescale: int, movie: int, whole_seconds: int
) -> None:
    origin = Fraction(whole_seconds)
    placed = place(first, priming, timescale, origin, movie)
    assert first + placed.shift >= 0
    assert placed.trim >= priming
    # A player shows a media time after the empty edit, and leaves out what is trimmed.
    shown = placed.delay + Fraction(first + placed.shift - placed.trim, timescale)
    assert shown == Fraction(first, timescale) - origin
    # Both can be written: in the movie's ticks, and in the track's.
    assert placed.delay >= 0
    assert (placed.delay * movie).denominator == 1
    assert (placed.delay * timescale).denominator == 1
    # And no more is left to fragments than less than one step of what both can express.
    heard = max(Fraction(0), Fraction(first + priming, timescale) - origin)
    step = Fraction(Fraction(movie, timescale).denominator, timescale)
    assert 0 <= heard - placed.delay < step


@pytest.mark.parametrize(
    ("first", "priming", "origin", "expected"),
    [
        (0, 0, 0, Placement(Fraction(0), 0, 0)),
        (-1024, 1024, 0, Placement(Fraction(0), 1024, 1024)),
        (-2000, 1024, 0, Placement(Fraction(0), 2000, 2000)),
        (48_000, 0, 0, Placement(Fraction(1), 0, -48_000)),
        (48_100, 0, 0, Placement(Fraction(48_096, 48_000), 0, -48_096)),
        (48_000, 1024, 0, Placement(Fraction(49_008, 48_000), 1024, 1024 - 49_008)),
        (480_000, 0, 10, Placement(Fraction(0), 0, -480_000)),
        (528_000, 0, 10, Placement(Fraction(1), 0, -528_000)),
    ],
)
def test_a_track_of_sound(first: int, priming: int, origin: int, expected: Placement) -> None:
    assert place(first, priming, 48_000, Fraction(origin), 1000) == expected


@pytest.mark.parametrize(
    ("timescales", "expected"),
    [
        ([], 1),
        ([24_000], 24_000),
        ([24_000, 48_000], 48_000),
        ([24_000, 44_100], 3_528_000),
        ([2**31 - 1], 2**31 - 1),
        ([2**31], 1),
        # One that does not go with the others is left out, and those behind it are not.
        ([90_000, 999_983, 48_000], 720_000),
    ],
)
def test_as_many_tracks_as_possible_have_whole_ticks(timescales: list[int], expected: int) -> None:
    assert movie_timescale(timescales) == expected


@pytest.mark.parametrize(
    ("start", "bases", "expected"),
    [
        ("0", ["1/24"], "0"),
        ("0", [], "0"),
        ("999/1000", ["1/24"], "0"),
        ("1", ["1/24"], "1"),
        ("10/3", ["1/24"], "10/3"),
        ("10/3", ["1/24", "1/1000"], "13/4"),
        ("10/3", ["1/1000", "1/24"], "13/4"),
        ("-1/1000", ["1/24"], "-1/24"),
        ("-1/24", ["1/24"], "-1/24"),
        ("95/10", ["1001/24000", "1/48000"], "227227/24000"),
        ("11", ["3/2", "2"], "6"),
        ("11", ["2", "3/2"], "6"),
    ],
)
def test_a_film_begins_at_zero_or_is_moved_by_whole_ticks_of_all_tracks(
    start: str, bases: list[str], expected: str
) -> None:
    assert origin_of(Fraction(start), map(Fraction, bases)) == Fraction(expected)
