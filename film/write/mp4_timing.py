"""Exact times: the zero that a film is moved to, and each track's offset from it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

_KEPT_START = Fraction(1)
"""Seconds: a film that starts between 0 and this keeps its times as they are."""
_MAX_TIMESCALE = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Placement:
    """A track's position in an MP4: its edit list, and the offset to its media time."""

    delay: Fraction
    """Empty seconds before the track begins (an empty edit)."""
    trim: int
    """Ticks cut off the track's beginning."""
    shift: int
    """Ticks to add to a time in the film to get the media time."""


def place(first: int, priming: int, timescale: int, origin: Fraction, movie: int) -> Placement:
    """Place a track so that all of its times are kept exactly.

    A late start is expressed by an empty edit as far as both the movie's and the track's timescale
    allow; the fragment's own time does the rest. (With fragment times alone FFmpeg, and so
    Chromium, would add a track's start to its duration.)

    Args:
        first: the first packet's time in the film, in ticks of the track.
        priming: ticks of it that are not played.
        timescale: the track's ticks a second.
        origin: the film's time, in seconds, that becomes zero; a whole number of ticks.
        movie: the header's ticks a second.
    """
    zero = int(origin * timescale)
    heard = first - zero + priming
    trim = priming - min(heard, 0)
    grid = timescale // math.gcd(timescale, movie)
    delay = max(heard, 0) // grid * grid
    return Placement(Fraction(delay, timescale), trim, trim - delay - zero)


def movie_timescale(timescales: Iterable[int]) -> int:
    """Return a timescale in which as many tracks' ticks as possible are whole numbers."""
    result = 1
    for timescale in timescales:
        common = math.lcm(result, timescale)
        result = common if common <= _MAX_TIMESCALE else result
    return result


def origin_of(start: Fraction, bases: Iterable[Fraction]) -> Fraction:
    """Return the time, in seconds, that becomes the output's zero for a film starting at `start`.

    Zero for most films. One that starts before zero or late is moved by a whole multiple of each of
    `bases` (the ticks of its tracks, in seconds), so that picture and sound stay exact.
    """
    if 0 <= start < _KEPT_START:
        return Fraction(0)
    tick = Fraction(0)
    for base in bases:
        tick = _least_common_multiple(tick, base) if tick else base
    return math.floor(start / tick) * tick


def _least_common_multiple(one: Fraction, other: Fraction) -> Fraction:
    return Fraction(
        math.lcm(one.numerator, other.numerator), math.gcd(one.denominator, other.denominator)
    )
