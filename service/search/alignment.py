"""Locates a clip in films: candidates vote for offsets, and the best offsets are verified exactly.

Each match of a clip frame with a film's row votes for an offset of the clip in the film. The frames
of a true match agree on one offset; chance matches do not. The offsets with the most votes are
verified: the clip's frames are compared with the film's frames at the same times, shifted a little
either way, and scored by the best run of similar frames, which also separates the film's passage
from whatever precedes or follows it in the clip. Pure numpy; independent of store and index.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.search.candidates import Candidate

ALIKE = 0.45
"""A pair of frames above this similarity counts for a place, below it against. Measured: the same
frame under all distortions together 0.54 or more for 19 of 20 frames, median 0.9; the best frame of
another film below 0.45 for 19 of 20, median 0.25 to 0.35."""
PROPOSALS = 8
"""Places that are verified exactly."""
REACH_SECONDS = 2.5
"""How far a place is shifted either way: indexed rows are a second apart, and a static shot looks
the same for longer than that."""
SAME_PLACE_SECONDS = 1.0
"""Places in a film that are closer are the same."""

_STEP_SECONDS = 0.04
_VOTE_SECONDS = 0.5
_MIN_VOTE = 0.2
_VOTE_POWER = 3
"""Emphasises strong similarities over many weak ones: in scrolling credits every second resembles
all the others."""
_RIVAL_FROM = 0.95
"""A rival above this share of the best place's score starts to reduce the confidence."""
_RIVAL_DOUBT = 0.4
"""Reduction of the confidence by an equally good rival."""


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """A clip's frames to compare, without flat ones, which show nothing."""

    seconds: NDArray[np.float64]
    """From the clip's first frame, [N], increasing."""
    embeddings: NDArray[np.float32]
    """[N, 200], of unit length."""


@dataclass(frozen=True, slots=True)
class Place:
    """A film, and the clip's offset in it."""

    film: str
    film_uid: str
    offset: float
    """Seconds from the film's first frame; negative where the clip begins before."""


@dataclass(frozen=True, slots=True)
class FilmWindow:
    """Consecutive frames of a film."""

    seconds: NDArray[np.float64]
    """From the film's first frame, [M], increasing."""
    embeddings: NDArray[np.float32]
    """[M, 200]"""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The best alignment of a clip with a film around a place."""

    place: Place
    first: int
    """The first matching frame of the clip."""
    last: int
    frames: int
    """Of the clip, in all."""
    similarity: float
    """The mean over the frames from the first to the last."""
    score: float
    """The sum of the frames' similarities above ALIKE."""
    rival: float
    """The best other place's share of the score, 0 to 1."""
    confidence: float = 0.0


def propose(clip: ClipFrames, candidates: Sequence[Sequence[Candidate]]) -> list[Place]:
    """Return the places with the most votes, the best first.

    Args:
        clip: the clip.
        candidates: similar rows of films, for each frame of the clip.
    """
    votes: dict[tuple[str, str], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for second, found in zip(clip.seconds.tolist(), candidates, strict=True):
        # One vote for each frame and offset, or a static shot would vote for itself many times.
        own: dict[tuple[str, str, int], float] = {}
        for one in found:
            if one.similarity > _MIN_VOTE:
                key = (one.film, one.film_uid, round((one.seconds - second) / _VOTE_SECONDS))
                own[key] = max(own.get(key, 0.0), one.similarity**_VOTE_POWER)
        for (film, uid, bin_), vote in own.items():
            votes[film, uid][bin_] += vote
    ranked = [
        # Rows are a second apart: one offset's votes fall into three bins.
        (sum(bins.get(bin_ + step, 0.0) for step in (-1, 0, 1)), film, uid, bin_)
        for (film, uid), bins in votes.items()
        for bin_ in bins
    ]
    ranked.sort(key=lambda entry: (-entry[0], entry[1:]))
    places: list[Place] = []
    for _, film, uid, bin_ in ranked:
        place = Place(film, uid, bin_ * _VOTE_SECONDS)
        if not any(_near(place, other, 2 * SAME_PLACE_SECONDS) for other in places):
            places.append(place)
        if len(places) == PROPOSALS:
            break
    return places


def windows(clip: ClipFrames, place: Place) -> Iterator[tuple[slice, float, float]]:
    """Yield the time windows of the film needed to verify a place.

    As a slice of the clip's frames, the first second, and the last second; together no longer than
    the clip and `REACH_SECONDS` around each of its frames.
    """
    first = 0
    for number in range(1, len(clip.seconds) + 1):
        ends = number == len(clip.seconds)
        if ends or (
            clip.seconds[number] - clip.seconds[number - 1] > 2 * REACH_SECONDS
            or clip.seconds[number] - clip.seconds[first] > 60.0
        ):
            begin = place.offset + float(clip.seconds[first]) - REACH_SECONDS
            end = place.offset + float(clip.seconds[number - 1]) + REACH_SECONDS
            yield slice(first, number), begin, end
            first = number


def shifts() -> NDArray[np.float64]:
    """Return the shifts to try, in seconds, [D]."""
    steps = round(REACH_SECONDS / _STEP_SECONDS)
    return np.arange(-steps, steps + 1, dtype=np.float64) * _STEP_SECONDS


def similarities(clip: ClipFrames, place: Place, window: FilmWindow) -> NDArray[np.float32]:
    """Return the similarity of each clip frame and the film's frame at its time, for every shift.

    [N, D], clipped at 0; 0 if the film has no frame at that time.
    """
    shift = shifts()
    if not len(window.seconds):
        return np.zeros((len(clip.seconds), len(shift)), np.float32)
    wanted = place.offset + clip.seconds[:, None] + shift[None]
    nearest = np.searchsorted(window.seconds, wanted)
    nearest = np.clip(nearest, 1, max(1, len(window.seconds) - 1))
    nearest -= (
        wanted - window.seconds[nearest - 1]
        < window.seconds[np.minimum(nearest, len(window.seconds) - 1)] - wanted
    )
    nearest = np.clip(nearest, 0, len(window.seconds) - 1)
    products = clip.embeddings @ window.embeddings.T
    found = np.take_along_axis(products, nearest, axis=1)
    there = np.abs(window.seconds[nearest] - wanted) <= 0.5
    alike: NDArray[np.float32] = np.where(there, np.maximum(found, 0.0), 0.0).astype(np.float32)
    return alike


def align(place: Place, similarity: NDArray[np.float32]) -> Alignment | None:
    """Return the alignment at the best shift; None if no frames are similar.

    Args:
        place: the place.
        similarity: as `similarities` gives it, [N, D].
    """
    shift = shifts()
    gains = similarity - ALIKE
    scores = _best_runs(gains)
    best = int(np.argmax(scores))
    if scores[best] <= 0:
        return None
    first, last = _best_run(gains[:, best])
    elsewhere = scores[np.abs(shift - shift[best]) > SAME_PLACE_SECONDS]
    return Alignment(
        Place(place.film, place.film_uid, place.offset + float(shift[best])),
        first,
        last,
        len(similarity),
        float(similarity[first : last + 1, best].mean()),
        float(scores[best]),
        float(elsewhere.max(initial=0.0) / scores[best]),
    )


def judge(alignments: Sequence[Alignment]) -> list[Alignment]:
    """Return the alignments with their confidence, highest first, without duplicate places."""
    ranked = sorted(alignments, key=lambda one: (-one.score, one.place.film, one.place.offset))
    kept: list[Alignment] = []
    for one in ranked:
        if not any(_near(one.place, other.place, SAME_PLACE_SECONDS) for other in kept):
            kept.append(one)
    judged = []
    for one in kept:
        others = [other.score for other in kept if other is not one]
        rival = max(one.rival, min(1.0, max(others, default=0.0) / one.score))
        judged.append(replace(one, rival=rival, confidence=_confidence(one, rival)))
    judged.sort(key=lambda one: -one.confidence)
    return judged


def _confidence(one: Alignment, rival: float) -> float:
    """Return the confidence of an alignment, 0 to 1.

    Short runs, and runs that cover little of the clip, need a higher similarity: a fade or snow may
    resemble another film's for a moment. An equally good rival lowers the confidence. The numbers
    were tuned on other clips and distortions than those of `benchmarks.retrieval`.
    """
    frames = one.last - one.first + 1
    needed = 0.5 + 0.35 / math.sqrt(frames) + 0.2 * (1.0 - frames / one.frames)
    alike = 1.0 / (1.0 + math.exp(-(one.similarity - needed) / 0.025))
    closeness = max(0.0, rival - _RIVAL_FROM) / (1.0 - _RIVAL_FROM)
    return alike * (1.0 - _RIVAL_DOUBT * closeness)


def _near(one: Place, other: Place, seconds: float) -> bool:
    same = (one.film, one.film_uid) == (other.film, other.film_uid)
    return same and abs(one.offset - other.offset) <= seconds


def _best_runs(gains: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the maximum subarray sum of each column of [N, D], at least 0."""
    running = np.zeros(gains.shape[1])
    best = np.zeros(gains.shape[1])
    for row in gains:
        running = np.maximum(running + row, 0.0)
        best = np.maximum(best, running)
    return best


def _best_run(gains: NDArray[np.float32]) -> tuple[int, int]:
    """Return the first and the last index of the maximum subarray of [N]."""
    best, running, begin = 0.0, 0.0, 0
    first = last = 0
    for place, gain in enumerate(gains.tolist()):
        if running <= 0.0:
            running, begin = 0.0, place
        running += gain
        if running > best:
            best, first, last = running, begin, place
    return first, last
