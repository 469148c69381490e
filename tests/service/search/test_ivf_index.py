"""The trained index: rows that are put come back, those that are removed do not."""

from functools import partial

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from service.search.candidates import unit
from service.search.ivf_index import StoppedError, TrainedIndex, lists_for

ROWS = 2000


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return rows of unit length, [count, 200], no two alike."""
    return unit(np.random.default_rng(seed).normal(size=(count, 200)).astype(np.float32))


def ids(count: int, first: int = 0) -> NDArray[np.int64]:
    return np.arange(first, first + count, dtype=np.int64)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Others use this machine as well: threads that wait for one another take minutes."""
    faiss.omp_set_num_threads(1)


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    return vectors(ROWS)


@pytest.fixture
def index(rows: NDArray[np.float32]) -> TrainedIndex:
    index = TrainedIndex.train(rows, 16, lambda: False)
    index.add(rows, ids(ROWS))
    return index


def found(index: TrainedIndex, queries: NDArray[np.float32], count: int = 1) -> list[list[int]]:
    _, answered = index.search(queries, count, None, 1.0)
    return answered.tolist()


def test_lists_grow_with_the_rows_up_to_a_limit() -> None:
    assert [lists_for(rows) for rows in (1, 10_000, 1_000_000, 10**9)] == [4, 512, 4096, 4096]


def test_each_row_is_most_like_itself(index: TrainedIndex, rows: NDArray[np.float32]) -> None:
    assert len(index) == ROWS
    similarities, answered = index.search(rows[:100], 3, None, 1.0)
    assert answered[:, 0].tolist() == list(range(100))
    np.testing.assert_allclose(similarities[:, 0], 1, atol=0.02)
    assert (np.diff(similarities, axis=1) <= 0).all()
    exact = rows[:100] @ rows.T
    np.testing.assert_allclose(np.take_along_axis(exact, answered, axis=1), similarities, atol=0.02)


def test_rows_that_are_removed_are_found_no_more(
    index: TrainedIndex, rows: NDArray[np.float32]
) -> None:
    index.remove(ids(50))
    assert len(index) == ROWS - 50
    assert all(answer[0] >= 50 for answer in found(index, rows[:50]))
    assert found(index, rows[50:60]) == [[row] for row in range(50, 60)]


def test_where_there_are_no_more_rows_ids_are_negative(rows: NDArray[np.float32]) -> None:
    index = TrainedIndex.train(rows, 16, lambda: False)
    index.add(rows[:2], ids(2))
    (answer,) = found(index, rows[:1], count=4)
    assert sorted(answer) == [-1, -1, 0, 1] and answer[0] == 0


def test_a_new_training_keeps_the_rows_of_the_old_index(
    index: TrainedIndex, rows: NDArray[np.float32]
) -> None:
    sample = index.sample(500, np.random.default_rng(0))
    assert 400 < len(sample) < 600
    np.testing.assert_allclose(np.linalg.norm(sample, axis=1), 1, atol=1e-5)
    trained = TrainedIndex.train(sample, 32, lambda: False, index)
    assert (len(trained), trained.lists) == (ROWS, 32)
    assert found(trained, rows[:20]) == [[row] for row in range(20)]
    more = vectors(10, seed=1)
    trained.add(more, ids(10, first=100_000))
    assert found(trained, more) == [[row] for row in range(100_000, 100_010)]


def test_training_ends_when_it_is_stopped(index: TrainedIndex, rows: NDArray[np.float32]) -> None:
    asked = 0

    def after(rounds: int) -> bool:
        nonlocal asked
        asked += 1
        return asked > rounds

    for rounds in (0, 5, 10):
        asked = 0
        with pytest.raises(StoppedError):
            TrainedIndex.train(rows, 16, partial(after, rounds), index)
        assert asked == rounds + 1
