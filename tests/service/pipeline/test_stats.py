"""What is told of a reconstruction's progress, batch after batch."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from film.process.film_process import FrameBatch
from service import metrics
from service.inference import ModelVersion
from service.pipeline.events import Progress, StageSeconds
from service.pipeline.stats import Stats

MODEL = ModelVersion("pca", 1, "sha256:" + "0" * 64, "pca", {})
TICK = Fraction(1, 90_000)


def batch(pts: list[int], durations: list[int]) -> FrameBatch:
    return FrameBatch(
        np.empty((0, 144, 256, 3), np.uint8),
        np.array(pts, np.int64),
        np.array(durations, np.int64),
        np.empty(0, np.float32),
    )


def waiting(stage: str) -> float:
    return metrics.RECONSTRUCTION_QUEUE.labels(stage)._value.get()


@pytest.fixture(autouse=True)
def queues_are_left_as_they_were() -> Iterator[None]:
    before = waiting("model"), waiting("write")
    yield
    assert (waiting("model"), waiting("write")) == before


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.integers(1, 10_000), min_size=1, max_size=12),
    start=st.integers(-(10**6), 10**6),
    cut=st.integers(0, 12),
    last=st.integers(1, 10_000),
)
def test_the_position_is_exact_however_the_film_is_cut(
    steps: list[int], start: int, cut: int, last: int
) -> None:
    pts = [start + sum(steps[:index]) for index in range(len(steps) + 1)]
    durations = [*steps, last]
    stats = Stats(MODEL, TICK)
    for part in (slice(None, cut), slice(cut, None)):
        stats.wrote(batch(pts[part], durations[part]))
    assert stats.position == (sum(steps) + last) * TICK
    assert stats.frames_written == len(pts)
    stats.reconstructed(stats.frames_written, 0, 0)
    stats.decoded(stats.frames_written)
    stats.close()


def test_a_picture_without_a_duration_lasts_as_long_as_the_one_before() -> None:
    stats = Stats(MODEL, Fraction(1, 10))
    stats.decoded(4)
    stats.reconstructed(4, 0, 0)
    stats.wrote(batch([100, 103], [3, 0]))
    assert stats.position == Fraction(6, 10)
    stats.wrote(batch([107], [0]))
    assert stats.position == Fraction(11, 10)
    stats.wrote(batch([], []))
    assert (stats.position, stats.frames_written) == (Fraction(11, 10), 3)
    stats.close()


def test_the_only_picture_of_a_film_without_durations_lasts_no_time() -> None:
    stats = Stats(MODEL, TICK)
    stats.decoded(1)
    stats.reconstructed(1, 0, 0)
    stats.wrote(batch([500], [0]))
    assert stats.position == 0


def test_what_ends_early_leaves_nothing_in_the_queues() -> None:
    stats = Stats(MODEL, TICK)
    before = waiting("model"), waiting("write")
    stats.decoded(30)
    stats.reconstructed(20, 0.5, 0.25)
    stats.wrote(batch([1, 2], [1, 1]))
    assert (waiting("model") - before[0], waiting("write") - before[1]) == (10, 18)
    stats.close()


def test_progress_and_summary_tell_what_was_counted() -> None:
    stats = Stats(MODEL, Fraction(1, 24))
    stats.bytes_received, stats.bytes_sent = 1000, 400
    stats.decoded(2)
    stats.reconstructed(2, 0.5, 0.25)
    stats.wrote(batch([0, 1], [1, 1]))
    stats.busy(StageSeconds(read=1.5, write=2.0))
    assert stats.progress() == Progress(
        bytes_received=1000,
        frames_decoded=2,
        frames_reconstructed=2,
        frames_written=2,
        position=Fraction(1, 12),
    )
    summary = stats.summary("sha256:abc", ("a warning",))
    assert (summary.frames, summary.duration) == (2, Fraction(1, 12))
    assert (summary.bytes_received, summary.bytes_sent) == (1000, 400)
    assert summary.stage_seconds == StageSeconds(read=1.5, encode=0.5, decode=0.25, write=2.0)
    assert (summary.film_digest, summary.warnings) == ("sha256:abc", ("a warning",))
