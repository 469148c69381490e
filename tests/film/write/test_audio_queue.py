"""One track's sound between the film and the output: in order, counted, resumed after any unit."""

from fractions import Fraction
from typing import Any, cast

import pytest
from av.audio.stream import AudioStream
from hypothesis import given, settings
from hypothesis import strategies as st

from film.write.audio_queue import QueuedTrack
from film.write.sound import SoundTrackWriter, SoundUnit

RATE = 48_000


class Writer:
    """Stands for what makes units of a film's packets."""

    rate = RATE
    priming = 1024


class Source:
    """Stands for a film's stream of sound."""

    index = 1

    def __init__(self, start: int | None = None) -> None:
        self.start_time = start
        self.time_base = Fraction(1, 1000)


def track(start: int | None = None) -> QueuedTrack:
    return QueuedTrack(cast(SoundTrackWriter, Writer()), cast(AudioStream, Source(start)))


def units(steps: list[int], size: int = 3) -> list[SoundUnit]:
    """Return units that begin one after the other, each as long as its step."""
    return [
        SoundUnit(bytes([index % 256]) * size, sum(steps[:index]), step)
        for index, step in enumerate(steps)
    ]


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.integers(1, 5000), min_size=1, max_size=20),
    looks=st.lists(st.fractions(min_value=0, max_value=2), max_size=5),
)
def test_units_come_out_once_in_order_with_how_long_each_lasts(
    steps: list[int], looks: list[Fraction]
) -> None:
    queued = track()
    given_in = units(steps)
    queued.take(given_in)
    out: list[Any] = []
    for until in sorted(looks):
        seen = list(queued.units(until=until, final=False))
        assert all(queued.time_of(unit) <= until for unit, _ in seen)
        out += seen
    # The last one is held: how long it lasts is not known before the next one, or the end.
    out += queued.units(until=None, final=False)
    assert len(out) == len(steps) - 1
    out += queued.units(until=None, final=True)
    assert [unit for unit, _ in out] == given_in
    assert [duration for _, duration in out] == steps
    assert (queued.left, queued.bytes, len(queued.queue)) == (len(steps), 0, 0)


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.integers(1, 5000), min_size=1, max_size=20), cut=st.integers(0, 20))
def test_what_an_earlier_writer_wrote_is_dropped(steps: list[int], cut: int) -> None:
    queued = track()
    queued.left = queued.skipped = min(cut, len(steps))
    for unit in units(steps):
        queued.take([unit])
    assert [unit for unit, _ in queued.units(until=None, final=True)] == units(steps)[cut:]
    assert queued.left == len(steps)


def test_memory_is_counted_also_of_units_of_a_byte() -> None:
    queued = track()
    queued.take(units([960] * 1000, size=1))
    assert 1000 * 100 < queued.bytes < 1000 * 1000
    queued.clear()
    assert queued.bytes == 0 and not queued.queue


def test_sound_is_here_up_to_the_beginning_of_its_last_unit() -> None:
    queued = track()
    assert queued.reached < -(10**9)
    queued.take(units([RATE, RATE]))
    assert queued.reached == 1


@pytest.mark.parametrize(
    ("start", "origin", "beginning"),
    [
        (None, Fraction(0), 0),
        (None, Fraction(2), 2 * RATE),
        (3000, Fraction(0), 3 * RATE - RATE // 20),  # What may be priming lies before it.
        (3000, Fraction(4), 4 * RATE),
    ],
)
def test_before_any_sound_is_here_the_container_is_believed(
    start: int | None, origin: Fraction, beginning: int
) -> None:
    queued = track(start)
    assert queued.beginning(origin) == (beginning, 0)
    queued.take([SoundUnit(b"a", 77, 960)])
    assert queued.beginning(origin) == (77, Writer.priming)
