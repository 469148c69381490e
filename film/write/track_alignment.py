"""Aligns picture and sound in the output: one common zero, and a placement for every track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Self

from film.write.audio_queue import QueuedTrack
from film.write.mp4_timing import Placement, movie_timescale, origin_of, place


@dataclass(frozen=True, slots=True)
class Alignment:
    """An output's alignment, decided once, before its header is written."""

    origin: Fraction
    """The film's time, in seconds, that is the output's zero."""
    timescale: int
    """The header's ticks a second."""
    placements: tuple[Placement, ...]
    """In the tracks' output order, the picture's first."""
    start: Fraction
    """When the picture begins in the output, in seconds."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "origin": str(self.origin),
            "timescale": self.timescale,
            "placements": [asdict(each) | {"delay": str(each.delay)} for each in self.placements],
            "start": str(self.start),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` returned."""
        return cls(
            Fraction(data["origin"]),
            int(data["timescale"]),
            tuple(
                Placement(Fraction(each["delay"]), int(each["trim"]), int(each["shift"]))
                for each in data["placements"]
            ),
            Fraction(data["start"]),
        )


def align(
    film_base: Fraction, picture_base: Fraction, first: int | None, tracks: Sequence[QueuedTrack]
) -> Alignment:
    """Align tracks with what is known of them so far.

    Args:
        film_base: the film's time base.
        picture_base: the output picture's; a unit fraction of a second.
        first: the first picture's time in it; None if only sound has arrived.
        tracks: the sound tracks, in output order.
    """
    origin = _origin(film_base, picture_base, first, tracks)
    picture_rate = picture_base.denominator
    rates = [track.writer.rate for track in tracks]
    movie = movie_timescale([picture_rate, *rates])
    if first is None:
        first = int(origin * picture_rate)
    placements = [place(first, 0, picture_rate, origin, movie)]
    for track, rate in zip(tracks, rates, strict=True):
        begin, priming = track.beginning(origin)
        placements.append(place(begin, priming, rate, origin, movie))
    return Alignment(origin, movie, tuple(placements), first * picture_base - origin)


def _origin(
    film_base: Fraction, picture_base: Fraction, first: int | None, tracks: Sequence[QueuedTrack]
) -> Fraction:
    starts = [
        Fraction(track.queue[0].time + track.writer.priming, track.writer.rate)
        for track in tracks
        if track.queue
    ]
    if first is not None:
        starts.append(first * picture_base)
    bases = [film_base, *(Fraction(1, track.writer.rate) for track in tracks)]
    return origin_of(min(starts), bases)
