"""Finds passages with the same content in two films, or twice in one, exact to the frame."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from service.library.latents import Latents, LatentsManifest
from service.search.candidates import unit

GAP_SECONDS = 0.5
"""Largest gap in a passage without similar frames: a flash, a few lost frames."""
_OFFSET_SECONDS = 1.25
"""Largest error of a hint's offset: both sides are indexed once a second."""
_ANCHORS = 8
_PAD_SECONDS = 4.0
_CHUNK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Hint:
    """Two indexed frames that look alike."""

    first: float
    """In seconds of the first film; likewise the other."""
    second: float
    similarity: float


@dataclass(frozen=True, slots=True)
class FilmRange:
    """A passage of a film, in seconds from its first frame."""

    film: str
    film_uid: str
    start: Fraction
    stop: Fraction
    """The end of its last frame."""


@dataclass(frozen=True, slots=True)
class PassagePair:
    """Two passages with the same content."""

    first: FilmRange
    second: FilmRange
    similarity: float
    """The mean over the matching frames."""

    @property
    def seconds(self) -> float:
        """Their length."""
        return float(self.first.stop - self.first.start)


@dataclass(frozen=True, slots=True)
class _Frames:
    seconds: NDArray[np.float64]
    embeddings: NDArray[np.float32]


class FilmPair:
    """Compares the frames of two films, which may be the same one. Blocks."""

    def __init__(
        self, latents: Latents, first: LatentsManifest, second: LatentsManifest, minimum: float
    ) -> None:
        """`minimum`: similarity of matching frames."""
        self._latents = latents
        self._first = first
        self._second = second
        self._minimum = minimum

    def pairs(self, hints: list[Hint]) -> PassagePair | None:
        """Return the passage around hints of about one offset; raises DamagedError.

        In one film the two never overlap: an immediate repetition ends at its second start, and a
        static or slowly changing shot does not repeat itself.
        """
        offset = self._offset(sorted(hints, key=lambda hint: -hint.similarity)[:_ANCHORS])
        if offset is None:
            return None
        low, high = min(hint.first for hint in hints), max(hint.first for hint in hints)
        pad = _PAD_SECONDS
        while True:
            seconds, similarity = self._along(low - pad, high + pad, offset)
            found = self._longest(seconds, similarity, low, high)
            if found is None:
                return None
            begins_at_edge = found[0] == 0 and seconds[0] > max(0.0, -offset) + GAP_SECONDS
            ends_at_edge = found[1] == len(seconds) and self._continues_after(seconds[-1], offset)
            if not begins_at_edge and not ends_at_edge:
                break
            pad *= 2
        start, stop = found
        if self._first.film == self._second.film:
            stop = start + int(np.searchsorted(seconds[start:stop], seconds[start] + offset - 1e-6))
            if stop <= start or self._is_one_shot(seconds[start], seconds[start] + offset):
                return None
        return PassagePair(
            self._passage(self._first, seconds[start], seconds[stop - 1]),
            self._passage(self._second, seconds[start] + offset, seconds[stop - 1] + offset),
            float(np.nanmean(similarity[start:stop])),
        )

    def _is_one_shot(self, start: float, stop: float) -> bool:
        """Return whether a frame of the first film looks like all that follow up to another."""
        first = self._read(self._first, start, start + 1e-3)
        at = start
        while at < stop:
            end = min(stop, at + _CHUNK_SECONDS)
            frames = self._read(self._first, at, end)
            if (
                len(first.seconds)
                and (frames.embeddings @ first.embeddings[0]).min(initial=1.0) < self._minimum
            ):
                return False
            at = end
        return True

    def _continues_after(self, last: float, offset: float) -> bool:
        ends = min(float(self._first.duration), float(self._second.duration) - offset)
        return last < ends - GAP_SECONDS

    def _offset(self, anchors: list[Hint]) -> float | None:
        """Return the second film's offset at which the anchors' frames match best."""
        best = anchors[0]
        around = self._read(
            self._second, best.second - _OFFSET_SECONDS, best.second + _OFFSET_SECONDS
        )
        offsets = around.seconds - best.first
        if not len(offsets):
            return None
        total = np.zeros(len(offsets))
        for anchor in anchors:
            frame = self._read(self._first, anchor.first, anchor.first + 1e-3)
            other = self._read(
                self._second,
                anchor.first + offsets[0] - GAP_SECONDS,
                anchor.first + offsets[-1] + GAP_SECONDS,
            )
            if not len(frame.seconds) or not len(other.seconds):
                continue
            similarity = other.embeddings @ frame.embeddings[0]
            total += similarity[_nearest(other.seconds, anchor.first + offsets)]
        return float(offsets[int(np.argmax(total))])

    def _along(
        self, start: float, stop: float, offset: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times of the first film's frames, and similarities to those `offset` later.

        Only where the second film has frames; read a minute at a time.
        """
        start = max(0.0, -offset, start)
        stop = min(stop, float(self._first.duration), float(self._second.duration) - offset)
        seconds, similarity = [np.empty(0)], [np.empty(0)]
        while start < stop:
            end = min(stop, start + _CHUNK_SECONDS)
            frames = self._read(self._first, start, end)
            others = self._read(self._second, start + offset - 1.0, end + offset + 1.0)
            if len(frames.seconds) and len(others.seconds):
                nearest = _nearest(others.seconds, frames.seconds + offset)
                cosines = (frames.embeddings * others.embeddings[nearest]).sum(axis=1)
                seconds.append(frames.seconds)
                similarity.append(np.clip(cosines, 0.0, 1.0))
            start = end
        return np.concatenate(seconds), np.concatenate(similarity)

    def _longest(
        self, seconds: NDArray[np.float64], similarity: NDArray[np.float64], low: float, high: float
    ) -> tuple[int, int] | None:
        """Return the longest run of similar frames that touches a time range."""
        alike = np.flatnonzero(similarity >= self._minimum)
        if not len(alike):
            return None
        breaks = np.flatnonzero(np.diff(seconds[alike]) > GAP_SECONDS) + 1
        runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(alike, breaks)]
        near = [
            (start, stop)
            for start, stop in runs
            if seconds[start] <= high + 1.0 and seconds[stop - 1] >= low - 1.0
        ]
        return max(near, key=lambda run: seconds[run[1] - 1] - seconds[run[0]], default=None)

    def _passage(self, manifest: LatentsManifest, first: float, last: float) -> FilmRange:
        """Return the passage between the frames at two approximate times."""
        half = Fraction(1, 2000)
        low, _ = self._latents.rows_between(manifest, _fraction(first) - half, None)
        _, high = self._latents.rows_between(manifest, None, _fraction(last) + half)
        pts = self._latents.pts(manifest, low, min(high + 1, manifest.rows))
        end = int(pts[-1]) if high < manifest.rows else manifest.end_pts
        return FilmRange(
            manifest.film,
            manifest.film_uid,
            manifest.seconds(int(pts[0])),
            manifest.seconds(end),
        )

    def _read(self, manifest: LatentsManifest, start: float, stop: float) -> _Frames:
        """Return the frames that begin in a time range, in seconds."""
        low, high = self._latents.rows_between(
            manifest, _fraction(max(0.0, start)), _fraction(max(0.0, stop))
        )
        pts = self._latents.pts(manifest, low, high)
        seconds = (pts - manifest.origin_pts).astype(np.float64) * float(manifest.time_base)
        return _Frames(seconds, unit(self._latents.embeddings(manifest, low, high)))


def _fraction(seconds: float) -> Fraction:
    return Fraction(round(seconds * 1_000_000), 1_000_000)


def _nearest(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index of the nearest of increasing times for each wanted time."""
    after = np.clip(np.searchsorted(times, wanted), 1, max(1, len(times) - 1))
    after = np.minimum(after, len(times) - 1)
    before = np.maximum(after - 1, 0)
    nearest: NDArray[np.int64] = np.where(
        wanted - times[before] <= times[after] - wanted, before, after
    )
    return nearest
