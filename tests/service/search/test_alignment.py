"""Clips of synthetic embeddings are laid where they belong, and strangers nowhere."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.search.alignment import (
    Alignment,
    ClipFrames,
    FilmWindow,
    align,
    judge,
    propose,
    similarities,
    windows,
)
from service.search.candidates import Candidate

RATE = 24


def film(seed: int, shots: int = 30, seconds: float = 2.0) -> NDArray[np.float32]:
    """Embeddings of a film: shots that have nothing in common, each drifting a little."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(shots):
        begin, end = rng.normal(size=(2, 200))
        for part in np.linspace(0, 1, round(seconds * RATE)):
            frames.append(begin + 0.7 * part * end)
    return unit(np.array(frames))


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def noisy(rows: NDArray[np.float32], amount: float, seed: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(size=rows.shape) / np.sqrt(200)
    return unit(rows + amount * noise)


def matched(clip: ClipFrames, films: dict[str, NDArray[np.float32]]) -> Sequence[Alignment]:
    """Do what the service does, by exact search over rows one a second."""
    rows = [(name, row) for name, frames in films.items() for row in range(0, len(frames), RATE)]
    indexed = np.stack([films[name][row] for name, row in rows])
    candidates = []
    for one in clip.embeddings @ indexed.T:
        best = np.argsort(-one)[:20]
        candidates.append(
            [Candidate(rows[i][0], "uid", rows[i][1], rows[i][1] / RATE, one[i]) for i in best]
        )
    alignments = []
    for place in propose(clip, candidates):
        frames = films[place.film]
        seconds = np.arange(len(frames)) / RATE
        parts = []
        for own, start, stop in windows(clip, place):
            low, high = np.searchsorted(seconds, [start, stop])
            window = FilmWindow(seconds[low:high], frames[low:high])
            part = ClipFrames(clip.seconds[own], clip.embeddings[own])
            parts.append(similarities(part, place, window))
        alignments.append(align(place, np.concatenate(parts)))
    return judge([one for one in alignments if one is not None])


def clip_of(frames: NDArray[np.float32], start: int, count: int) -> ClipFrames:
    rows = start + 5 * np.arange(count)
    return ClipFrames((rows - start) / RATE, frames[rows])


FILMS = {"one": film(1), "two": film(2)}


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(["one", "two"]),
    start=st.integers(0, 1200),
    count=st.integers(10, 40),
    noise=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
def test_a_clip_is_found_to_the_frame(
    name: str, start: int, count: int, noise: float, seed: int
) -> None:
    clip = clip_of(FILMS[name], start, count)
    best = matched(ClipFrames(clip.seconds, noisy(clip.embeddings, noise, seed)), FILMS)[0]
    assert best.place.film == name
    assert best.place.offset == pytest.approx(start / RATE, abs=0.25)
    assert (best.first, best.last) == (0, count - 1)
    assert best.confidence > 0.9


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(100, 199), start=st.integers(0, 1200), count=st.integers(5, 40))
def test_a_stranger_is_not_matched(seed: int, start: int, count: int) -> None:
    found = matched(clip_of(film(seed), start, count), FILMS)
    assert all(one.confidence < 0.5 for one in found)


@settings(deadline=None, max_examples=25)
@given(
    start=st.integers(0, 1100),
    before=st.integers(0, 12),
    after=st.integers(0, 12),
    seed=st.integers(200, 250),
)
def test_what_comes_before_and_after_the_passage_is_reported_from_it(
    start: int, before: int, after: int, seed: int
) -> None:
    inside = clip_of(FILMS["one"], start, 20)
    foreign = film(seed)
    embeddings = np.concatenate(
        [foreign[: 5 * before : 5], inside.embeddings, foreign[600 : 600 + 5 * after : 5]]
    )
    clip = ClipFrames(np.arange(len(embeddings)) * 5 / RATE, embeddings)
    best = matched(clip, FILMS)[0]
    assert best.place.offset + before * 5 / RATE == pytest.approx(start / RATE, abs=0.1)
    assert (best.first, best.last) == (before, before + 19)
    assert best.confidence > 0.5


def test_a_clip_with_gaps_and_disturbed_frames_is_found() -> None:
    whole = clip_of(FILMS["two"], 333, 60)
    kept = np.r_[0:15, 35:60]
    embeddings = whole.embeddings[kept].copy()
    embeddings[20:23] = film(7)[:3]
    best = matched(ClipFrames(whole.seconds[kept], embeddings), FILMS)[0]
    assert best.place.film == "two"
    assert best.place.offset == pytest.approx(333 / RATE, abs=0.1)
    assert (best.first, best.last) == (0, 39)
    assert best.confidence > 0.5


def test_a_long_clip_reads_only_around_its_frames() -> None:
    seconds = np.arange(0.0, 3600.0, 20.0)
    clip = ClipFrames(seconds, np.zeros((len(seconds), 200), np.float32))
    place = propose(ClipFrames(seconds[:1], clip.embeddings[:1]), [[candidate(100.0, 0.9)]])[0]
    read = list(windows(clip, place))
    assert sum(stop - start for _, start, stop in read) <= 5.1 * len(seconds)
    covered = np.concatenate([np.arange(len(seconds))[own] for own, _, _ in read])
    assert np.array_equal(covered, np.arange(len(seconds)))


def candidate(seconds: float, similarity: float) -> Candidate:
    return Candidate("one", "uid", round(seconds * RATE), seconds, similarity)


def test_a_passage_that_appears_twice_is_answered_twice_and_doubtfully() -> None:
    twice = FILMS["one"].copy()
    twice[960:1080] = twice[240:360]
    found = matched(clip_of(twice, 240, 24), {"one": twice})
    assert sorted(round(one.place.offset, 1) for one in found[:2]) == [10.0, 40.0]
    assert all(0.5 <= one.confidence < 0.8 for one in found[:2])


def test_a_still_shot_is_found_but_not_surely() -> None:
    frames = FILMS["one"].copy()
    frames[480:960] = frames[480]
    best = matched(clip_of(frames, 600, 24), {"one": frames})[0]
    # Half a frame before it begins, its first frame is still the nearest.
    assert 20.0 - 0.5 / RATE <= best.place.offset <= 36.0
    assert 0.5 <= best.confidence < 0.8


def test_nothing_to_compare_is_no_match() -> None:
    clip = ClipFrames(np.empty(0), np.empty((0, 200), np.float32))
    assert propose(clip, []) == []
    assert judge([]) == []
