"""Where two films, or one film twice, show the same: from hints to spans exact to the frame."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from service.library.latents import Latents, LatentsManifest
from service.search.candidates import unit

GAP_SECONDS = 0.5
"""A passage goes on over so much that is not alike: a flash, a few frames lost."""
_OFFSET_SECONDS = 1.25
"""How far a hint's offset may be wrong: both sides are indexed once a second."""
_ANCHORS = 8
_PAD_SECONDS = 4.0
_CHUNK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Hint:
    """Two indexed moments that look alike."""

    first: float
    """In seconds of the first film; likewise the other."""
    second: float
    similarity: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """A passage of a film, in seconds from its first frame."""

    film: str
    film_uid: str
    start: Fraction
    stop: Fraction
    """The end of its last frame."""


@dataclass(frozen=True, slots=True)
class PassagePairs:
    """Two passages that show the same."""

    first: Stretch
    second: Stretch
    similarity: float
    """The mean of the frames that lie on each other."""

    @property
    def seconds(self) -> float:
        """How long they are."""
        return float(self.first.stop - self.first.start)


@dataclass(frozen=True, slots=True)
class _Frames:
    seconds: NDArray[np.float64]
    embeddings: NDArray[np.float32]


class Pair:
    """Two films, maybe the same one, whose frames are laid on each other. Blocks."""

    def __init__(
        self, latents: Latents, first: LatentsManifest, second: LatentsManifest, minimum: float
    ) -> None:
        """`minimum`: frames at least so similar are alike."""
        self._latents = latents
        self._first = first
        self._second = second
        self._minimum = minimum

    def pairs(self, hints: list[Hint]) -> PassagePairs | None:
        """Return the passage that hints at about one offset lie in; raises DamagedError.

        Of one film the two never overlap: what repeats itself at once is cut at the first return,
        and a shot that changes slowly or not at all is no repetition of itself.
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
            ends_at_edge = found[1] == len(seconds) and self._goes_on_after(seconds[-1], offset)
            if not begins_at_edge and not ends_at_edge:
                break
            pad *= 2
        start, stop = found
        if self._first.film == self._second.film:
            stop = start + int(np.searchsorted(seconds[start:stop], seconds[start] + offset - 1e-6))
            if stop <= start or self._is_one_shot(seconds[start], seconds[start] + offset):
                return None
        return PassagePairs(
            self._stretch(self._first, seconds[start], seconds[stop - 1]),
            self._stretch(self._second, seconds[start] + offset, seconds[stop - 1] + offset),
            float(np.nanmean(similarity[start:stop])),
        )

    def _is_one_shot(self, start: float, stop: float) -> bool:
        """Say whether a frame of the first film looks like all that follow up to another."""
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

    def _goes_on_after(self, last: float, offset: float) -> bool:
        ends = min(float(self._first.duration), float(self._second.duration) - offset)
        return last < ends - GAP_SECONDS

    def _offset(self, anchors: list[Hint]) -> float | None:
        """Return by how much the second film is later where the anchors' frames fit best."""
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
        """Return the first film's frames' times and similarity to those `offset` later.

        Only where the second film has frames, read a minute at a time.
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
        """Return the longest run of frames that are alike which touches a stretch of time."""
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

    def _stretch(self, manifest: LatentsManifest, first: float, last: float) -> Stretch:
        """Return the passage from the frame at about one time to that at about another."""
        half = Fraction(1, 2000)
        low, _ = self._latents.rows_between(manifest, _fraction(first) - half, None)
        _, high = self._latents.rows_between(manifest, None, _fraction(last) + half)
        pts = self._latents.pts(manifest, low, min(high + 1, manifest.rows))
        end = int(pts[-1]) if high < manifest.rows else manifest.end_pts
        return Stretch(
            manifest.film,
            manifest.film_uid,
            manifest.seconds(int(pts[0])),
            manifest.seconds(end),
        )

    def _read(self, manifest: LatentsManifest, start: float, stop: float) -> _Frames:
        """Return the frames that begin in a stretch of time, in seconds."""
        low, high = self._latents.rows_between(
            manifest, _fraction(max(0.0, start)), _fraction(max(0.0, stop))
        )
        pts = self._latents.pts(manifest, low, high)
        seconds = (pts - manifest.origin_pts).astype(np.float64) * float(manifest.time_base)
        return _Frames(seconds, unit(self._latents.embeddings(manifest, low, high)))


def _fraction(seconds: float) -> Fraction:
    return Fraction(round(seconds * 1_000_000), 1_000_000)


def _nearest(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each wanted time the place of the nearest of increasing times."""
    after = np.clip(np.searchsorted(times, wanted), 1, max(1, len(times) - 1))
    after = np.minimum(after, len(times) - 1)
    before = np.maximum(after - 1, 0)
    nearest: NDArray[np.int64] = np.where(
        wanted - times[before] <= times[after] - wanted, before, after
    )
    return nearest
