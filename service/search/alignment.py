"""Where a clip lies in films: its frames' candidates vote for places, and each place is looked at.

A clip's frame that looks like a moment of a film says: the clip began so many seconds before it. A
clip that is of the film says so again and again, for the same beginning; one that only looks like
it here and there does not. The beginnings that got the most votes are then checked exactly: the
clip is laid upon the film's own frames at its own times, shifted a little either way, and the
longest run of frames that lie on their like decides. What comes before or after the film's passage
in the clip, and lies on nothing, is thus told from it. Pure numpy; knows no store and no index.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.search.candidates import Candidate

ALIKE = 0.45
"""From this similarity on a pair of frames speaks for a place, below it against. Measured: a frame
and its like under all distortions together 0.54 or more for 19 of 20 frames, 0.9 in the middle; a
frame and the best of a film it is not from below 0.45 for 19 of 20, 0.25 to 0.35 in the middle."""
PROPOSALS = 8
"""Places that are looked at closely."""
REACH_SECONDS = 2.5
"""How far a place is shifted either way: indexed rows are a second apart, and a still shot looks
the same for longer than that."""
SAME_PLACE_SECONDS = 1.0
"""Places of a film no further apart are one."""

_STEP_SECONDS = 0.04
_VOTE_SECONDS = 0.5
_LEAST_VOTE = 0.2
_VOTE_POWER = 3
"""What looks very much like a moment counts for much more than what looks a little like many: in
scrolling credits every second resembles all the others."""
_RIVAL_FROM = 0.95
"""A rival this close to the best place, as a share of its score, begins to make it doubtful."""
_RIVAL_DOUBT = 0.4
"""What a rival that is as good takes off the confidence."""


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """A clip's frames that are compared; flat ones, on which nothing can be seen, are left out."""

    seconds: NDArray[np.float64]
    """From the clip's first frame, [N], increasing."""
    embeddings: NDArray[np.float32]
    """[N, 200], of unit length."""


@dataclass(frozen=True, slots=True)
class Place:
    """A film, and where in it the clip's first frame would lie."""

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
    """The best way to lay a clip upon a film around a place."""

    place: Place
    first: int
    """Of the clip's frames, the first that lies on its like."""
    last: int
    frames: int
    """Of the clip, in all."""
    similarity: float
    """The mean over the frames from the first to the last."""
    score: float
    """How much speaks for it: the sum of what their similarities are above ALIKE."""
    rival: float
    """The best other place's share of the score, 0 to 1."""
    confidence: float = 0.0


def propose(clip: ClipFrames, candidates: Sequence[Sequence[Candidate]]) -> list[Place]:
    """Return the places that most of the clip's frames speak for, the best first.

    Args:
        clip: the clip.
        candidates: of each of its frames, rows of films that look like it.
    """
    votes: dict[tuple[str, str], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for second, found in zip(clip.seconds.tolist(), candidates, strict=True):
        # Once a frame and beginning, or a still shot would vote for itself many times.
        own: dict[tuple[str, str, int], float] = {}
        for one in found:
            if one.similarity > _LEAST_VOTE:
                key = (one.film, one.film_uid, round((one.seconds - second) / _VOTE_SECONDS))
                own[key] = max(own.get(key, 0.0), one.similarity**_VOTE_POWER)
        for (film, uid, bin_), vote in own.items():
            votes[film, uid][bin_] += vote
    ranked = [
        # Rows are a second apart: one beginning's votes fall into three bins.
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
    """Yield which stretches of the film are needed to look at a place, each for some clip frames.

    As the clip's frames, the first second, and the last. They are no longer than they must be,
    and together no longer than the clip and `REACH_SECONDS` around each of its frames.
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
    """Return the seconds by which a place is shifted, [D]."""
    steps = round(REACH_SECONDS / _STEP_SECONDS)
    return np.arange(-steps, steps + 1, dtype=np.float64) * _STEP_SECONDS


def similarities(clip: ClipFrames, place: Place, window: FilmWindow) -> NDArray[np.float32]:
    """Return how alike each clip frame and the film's frame at its time are, for every shift.

    [N, D]; 0 where the film has no frame then, or they are less alike than that.
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
    """Return the best shift around a place; None where nothing is alike.

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
    """Return the alignments with their confidence, the surest first; each place once."""
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
    """Return how sure an alignment is, 0 to 1.

    A few frames must be more alike than many, and than all there are: a stranger's fade or snow may
    pass for another's for a moment. A rival that is as good leaves it in doubt. The numbers were
    chosen on clips other than those of `benchmarks.retrieval`, distorted otherwise.
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
    """Return for each column of [N, D] the largest sum of consecutive rows, at least 0."""
    running = np.zeros(gains.shape[1])
    best = np.zeros(gains.shape[1])
    for row in gains:
        running = np.maximum(running + row, 0.0)
        best = np.maximum(best, running)
    return best


def _best_run(gains: NDArray[np.float32]) -> tuple[int, int]:
    """Return the first and the last row of the largest sum of consecutive ones; all are [N]."""
    best, running, begin = 0.0, 0.0, 0
    first = last = 0
    for place, gain in enumerate(gains.tolist()):
        if running <= 0.0:
            running, begin = 0.0, place
        running += gain
        if running > best:
            best, first, last = running, begin, place
    return first, last
