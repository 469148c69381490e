import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.quality.measured_film import Film
from benchmarks.quality.static_shots import STATIC_CHANGES, StaticChanges, static_frames
from tests.trainer.fidelity_films import FilmInMemory


class Frames(FilmInMemory):
    def __len__(self) -> int:
        return len(self.everything())


def film_of(*shots: NDArray[np.uint8]) -> Film:
    cuts = tuple(np.cumsum([len(shot) for shot in shots]).tolist()[:-1])
    return Film("a film", Frames(np.concatenate(shots), cuts=cuts))  # type: ignore[arg-type]


def shot(frames: int, moving_rows: int) -> NDArray[np.uint8]:
    """A grey picture in which so many rows change from frame to frame by 20 grey levels or so."""
    moves = np.random.default_rng(frames).integers(0, 40, (frames, moving_rows, 256, 3))
    made = np.full((frames, 144, 256, 3), 100, np.uint8)
    made[:, :moving_rows] += moves.astype(np.uint8)
    return made


@pytest.fixture(scope="module")
def film() -> Film:
    """A still shot, a lively one, a still one of one frame, and a still one."""
    return film_of(shot(12, 4), shot(9, 60), shot(1, 0), shot(8, 5))


def test_changes_are_taken_within_shots_that_stand_still(film: Film) -> None:
    assert static_frames(film).tolist() == [*range(1, 12), *range(23, 30)]


def test_no_more_changes_are_taken_than_are_needed() -> None:
    long = film_of(np.repeat(shot(2, 3), STATIC_CHANGES, axis=0))
    chosen = static_frames(long)
    assert len(chosen) == STATIC_CHANGES and len(set(chosen.tolist())) == STATIC_CHANGES
    assert chosen[0] < 5 and chosen[-1] > 2 * STATIC_CHANGES - 5


def test_a_lively_film_has_none() -> None:
    lively = film_of(shot(9, 60))
    assert static_frames(lively).tolist() == []
    nothing = StaticChanges(lively, static_frames(lively))
    assert list(nothing.frames_to_read()) == []
    assert nothing.summary(np.zeros(0, np.bool_)) is None


@pytest.mark.parametrize(
    ("moves", "correlation"), [("as it did", 1.0), ("not", 0.0), ("the other way", -1.0)]
)
def test_what_moves_as_it_did_correlates(film: Film, moves: str, correlation: float) -> None:
    still = StaticChanges(film, static_frames(film))
    for indices in still.frames_to_read():
        frames = torch.from_numpy(film.data.frames(indices)).clone()
        made = {"as it did": frames, "not": frames * 0 + 100, "the other way": 240 - frames}
        still.add(indices, made[moves])
    everything = np.ones(18, np.bool_)
    found = still.summary(everything)
    assert found is not None and found["changes"] == 18
    assert found["correlation"] == pytest.approx(correlation, abs=1e-6)
    some = still.summary(np.arange(18) < 4)
    assert some is not None and some["changes"] == 4
