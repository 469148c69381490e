"""The index: exact while small, close to exact when trained, right while films come and go."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from service.library.latents import IndexRows
from service.search.index import RowIndex

SIZE = 200
ROWS = 120


def vectors(seed: int, rows: int = ROWS) -> NDArray[np.float32]:
    """Rows of a film: shots of six, around 20 pictures of its own."""
    rng = np.random.default_rng(seed)
    shots = rng.normal(size=(20, SIZE))[np.arange(rows) // 6 % 20]
    rows_of_film = shots + 0.5 * rng.normal(size=(rows, SIZE))
    return (rows_of_film / np.linalg.norm(rows_of_film, axis=1, keepdims=True)).astype(np.float32)


def index_rows(embeddings: NDArray[np.float32], flat: int = 0) -> IndexRows:
    """A row a second of a film at 10 frames a second; the first `flat` have nothing to see."""
    count = len(embeddings)
    detail = np.where(np.arange(count) < flat, 0.5, 40.0).astype(np.float32)
    return IndexRows(
        np.arange(count, dtype=np.int64) * 10, embeddings, detail, np.arange(count, dtype=float)
    )


def filled(films: int, *, exact_rows: int = 10**6, flat: int = 0) -> RowIndex:
    index = RowIndex(exact_rows=exact_rows)
    for number in range(films):
        index.add(f"f{number:03}", f"u{number}", index_rows(vectors(number), flat))
        if index.move_rows():
            index.train(lambda: False)
    return index


def exact(films: list[int], query: NDArray[np.float32], count: int) -> list[tuple[str, int]]:
    ranked = sorted(
        (-float(row @ query), number, place)
        for number in films
        for place, row in enumerate(vectors(number))
    )
    return [(f"f{number:03}", place * 10) for _, number, place in ranked[:count]]


def test_a_small_index_is_exact() -> None:
    index = filled(5)
    queries = vectors(99, 8)

    found = index.search(queries, 30)

    for query, candidates in zip(queries, found, strict=True):
        assert [(one.film, one.row) for one in candidates] == exact(list(range(5)), query, 30)
        row = vectors(int(candidates[0].film[1:]))[candidates[0].row // 10]
        assert candidates[0].similarity == pytest.approx(float(row @ query), abs=1e-5)
        assert candidates[0].seconds == candidates[0].row / 10
        assert candidates[0].film_uid == f"u{int(candidates[0].film[1:])}"


def test_flat_rows_are_never_found() -> None:
    index = filled(2, flat=30)

    (found,) = index.search(vectors(0)[:1], 1000)

    assert len(index) == len(found) == 2 * (ROWS - 30)
    assert min(one.row for one in found) == 300


def test_a_selection_is_exact_too() -> None:
    index = filled(6)
    query = vectors(98, 1)

    (found,) = index.search(query, 7, index.select({"f001", "f004", "none"}))
    (timed,) = index.search(query, 1000, index.select({"f002"}, 10.5, 12.0))

    assert [(one.film, one.row) for one in found] == exact([1, 4], query[0], 7)
    assert sorted(one.seconds for one in timed) == [10, 11, 12], "and those that stand for these"


def test_a_trained_index_finds_nearly_all() -> None:
    """Through two trainings, with rows moved over from the first and others added since."""
    index = filled(60, exact_rows=1000)
    numbers = list(range(60))
    rng = np.random.default_rng(0)
    noise = 0.4 * rng.normal(size=(40, SIZE)) / SIZE**0.5
    queries = np.stack([vectors(n)[n] for n in range(40)]) + noise.astype(np.float32)

    found = index.search(queries, 6)

    hit = 0
    for query, candidates in zip(queries, found, strict=True):
        expected = set(exact(numbers, query / np.linalg.norm(query), 6))
        hit += len(expected & {(one.film, one.row) for one in candidates})
        for one in candidates:
            row = vectors(int(one.film[1:]))[one.row // 10]
            cosine = float(row @ query / np.linalg.norm(query))
            assert one.similarity == pytest.approx(cosine, abs=0.01)
    assert hit >= 0.97 * 6 * 40
    assert len(index) == 60 * ROWS


def test_a_hidden_film_leaves_its_places_to_others() -> None:
    index = filled(12, exact_rows=500)
    query = vectors(3)[:1]
    assert index.search(query, 5)[0][0].film == "f003"

    index.hide("f003", "another film of this id")
    assert index.search(query, 5)[0][0].film == "f003"
    index.hide("f003", "u3")
    at_once = index.search(query, 5)[0]
    index.compact()
    later = index.search(query, 5)[0]

    assert len(at_once) == len(later) == 5
    assert all(one.film != "f003" for one in (*at_once, *later))
    assert len(index) == 11 * ROWS and "f003" not in index.films


def test_films_come_and_go_while_it_is_searched() -> None:
    index = filled(3, exact_rows=1000)
    query = vectors(1)[50:51]
    done = threading.Event()

    def search() -> int:
        searches = 0
        while not done.is_set():
            (found,) = index.search(query, 5)
            assert (found[0].film, found[0].row) == ("f001", 500)
            assert len(found) == 5
            searches += 1
        return searches

    with ThreadPoolExecutor(2) as threads:
        searching = [threads.submit(search) for _ in range(2)]
        try:
            for number in range(3, 40):
                index.add(f"f{number:03}", f"u{number}", index_rows(vectors(number)))
                if index.move_rows():
                    index.train(lambda: False)
                if number % 3 == 0:
                    index.hide(f"f{number - 1:03}")
                    index.compact()
        finally:
            done.set()
        assert all(one.result() > 0 for one in searching)


def test_training_stops_when_told_to() -> None:
    index = RowIndex(exact_rows=100)
    index.add("f000", "u0", index_rows(vectors(0)))
    assert index.move_rows()

    index.train(lambda: True)

    assert index.search(vectors(0)[:1], 1)[0][0].row == 0
    assert index.move_rows(), "and is asked for again"


def test_the_rows_between_are_those_a_row_stands_for() -> None:
    index = filled(1)

    assert index.window("f000", "u0", 50) == (40, 61)
    assert index.window("f000", "u0", 55) == (50, 61)
    assert index.window("f000", "u0", 0) == (0, 11)
    assert index.window("f000", "u0", 50, reach=3) == (20, 81)
    assert index.window("f000", "u0", 1190, reach=2) == (1170, 1191)
    assert index.window("f000", "other", 50) is None
