"""The zero that picture and sound share, and where each lies from there."""

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

from film.write.audio_queue import QueuedTrack
from film.write.mp4_timing import Placement
from film.write.sound import SoundUnit
from film.write.track_alignment import Alignment, align

FILM_BASE = Fraction(1, 1000)
PICTURE_BASE = Fraction(1, 24_000)


@dataclass
class Writer:
    """What is asked of the writer of a sound track."""

    rate: int = 48_000
    priming: int = 0


@dataclass
class Source:
    """What is asked of a stream of the film."""

    index: int = 1
    start_time: int | None = None
    time_base: Fraction | None = FILM_BASE


def track(*units: int, writer: Writer | None = None, source: Source | None = None) -> QueuedTrack:
    """A track of sound whose first units begin at these times, in samples."""
    made = QueuedTrack(cast("Any", writer or Writer()), cast("Any", source or Source()))
    made.take([SoundUnit(b"sound", time, 1024) for time in units])
    return made


def test_picture_alone_at_zero() -> None:
    aligned = align(FILM_BASE, PICTURE_BASE, 0, [])
    assert aligned == Alignment(Fraction(0), 24_000, (Placement(Fraction(0), 0, 0),), Fraction(0))


def test_a_late_picture_is_moved_to_zero() -> None:
    aligned = align(FILM_BASE, PICTURE_BASE, 12_500 * 24, [])
    assert aligned.origin == Fraction(25, 2)
    assert aligned.start == 0
    assert aligned.placements == (Placement(Fraction(0), 0, -12_500 * 24),)


def test_a_picture_that_begins_within_a_second_keeps_its_time() -> None:
    aligned = align(FILM_BASE, PICTURE_BASE, 12_000, [])
    assert (aligned.origin, aligned.start) == (0, Fraction(1, 2))
    assert aligned.placements == (Placement(Fraction(1, 2), 0, -12_000),)


def test_sound_and_picture_keep_their_offset() -> None:
    # Sound begins first, at 5 seconds, 1000 samples of it unheard; the picture half a second later.
    sound = track(240_000 - 1000, writer=Writer(priming=1000))
    aligned = align(FILM_BASE, PICTURE_BASE, 132_000, [sound])
    assert aligned.timescale == 48_000
    assert (aligned.origin, aligned.start) == (5, Fraction(1, 2))
    assert aligned.placements == (
        Placement(Fraction(1, 2), 0, -132_000),
        Placement(Fraction(0), 1000, 1000 - 240_000),
    )


def test_what_begins_first_decides_on_the_zero() -> None:
    aligned = align(FILM_BASE, PICTURE_BASE, 240_000, [track(480_000), track(144_000)])
    assert (aligned.origin, aligned.start) == (3, 7)
    assert [placement.delay for placement in aligned.placements] == [7, 7, 0]


def test_the_zero_is_a_whole_tick_of_film_and_sound() -> None:
    aligned = align(FILM_BASE, PICTURE_BASE, 253_300, [track(900_000, writer=Writer(rate=44_100))])
    # 10.55416 seconds; a thousandth and a 44100th are both whole every hundredth.
    assert aligned.origin == Fraction(1055, 100)
    assert aligned.start == Fraction(100, 24_000)


def test_sound_that_is_not_here_yet_lies_where_its_container_says() -> None:
    late = track(source=Source(start_time=2050), writer=Writer(priming=1000))
    aligned = align(FILM_BASE, PICTURE_BASE, 0, [late])
    # A twentieth of a second is left for its priming.
    assert aligned.placements[1] == Placement(Fraction(2), 0, -96_000)
    early = track(source=Source(start_time=None))
    aligned = align(FILM_BASE, PICTURE_BASE, 240_000, [early])
    assert aligned.origin == 10
    assert aligned.placements[1] == Placement(Fraction(0), 0, -480_000)


def test_a_picture_that_is_not_here_yet_begins_with_the_sound() -> None:
    aligned = align(FILM_BASE, PICTURE_BASE, None, [track(480_000)])
    assert (aligned.origin, aligned.start) == (10, 0)
    assert aligned.placements[0] == Placement(Fraction(0), 0, -240_000)


def test_it_is_the_same_after_a_rest_as_json() -> None:
    sound = track(240_000 - 1000, writer=Writer(priming=1000))
    aligned = align(FILM_BASE, PICTURE_BASE, 132_017, [sound])
    assert Alignment.from_json(json.loads(json.dumps(aligned.to_json()))) == aligned
    assert aligned.to_json() == {
        "origin": "5",
        "timescale": 48_000,
        "placements": [
            {"delay": "12017/24000", "trim": 0, "shift": -132_017},
            {"delay": "0", "trim": 1000, "shift": -239_000},
        ],
        "start": "12017/24000",
    }
