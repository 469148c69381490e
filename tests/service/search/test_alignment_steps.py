"""Each step of laying a clip upon a film, on numbers made by hand."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.search.alignment import (
    ALIKE,
    PROPOSALS,
    Alignment,
    ClipFrames,
    FilmWindow,
    Place,
    align,
    judge,
    propose,
    shifts,
    similarities,
    windows,
)
from service.search.candidates import Candidate

SIZE = 200
AT_ZERO = int(np.argmin(np.abs(shifts())))


def clip(*seconds: float, shows: NDArray[np.float32] | None = None) -> ClipFrames:
    nothing = np.zeros((len(seconds), SIZE), np.float32)
    return ClipFrames(np.array(seconds), nothing if shows is None else shows)


def like(seconds: float, similarity: float, film: str = "one", uid: str = "uid") -> Candidate:
    return Candidate(film, uid, 0, seconds, similarity)


def pictures(*directions: int) -> NDArray[np.float32]:
    """Embeddings that are alike where their direction is the same, and otherwise not at all."""
    return np.eye(SIZE, dtype=np.float32)[list(directions)]


@pytest.mark.parametrize(
    ("second", "moment", "offset"),
    [(0.0, 100.0, 100.0), (5.0, 100.0, 95.0), (5.0, 2.0, -3.0), (0.0, 7.3, 7.5), (0.0, 7.2, 7.0)],
)
def test_a_frame_says_where_the_clip_began(second: float, moment: float, offset: float) -> None:
    found = propose(clip(second), [[like(moment, 0.9)]])
    assert found == [Place("one", "uid", offset)]


def test_only_what_is_at_all_alike_has_a_vote() -> None:
    assert propose(clip(0.0), [[like(10.0, 0.2)]]) == []
    assert len(propose(clip(0.0), [[like(10.0, 0.21)]])) == 1


@pytest.mark.parametrize(("alike", "first"), [(0.70, "often"), (0.75, "once")])
def test_one_great_likeness_counts_more_than_several_small_ones(alike: float, first: str) -> None:
    weak = [[like(10.0 + second, 0.5, "often")] for second in range(3)]
    weak[1].append(like(31.0, alike, "once"))
    found = propose(clip(0.0, 1.0, 2.0), weak)
    assert found[0].film == first
    assert {place.film: place.offset for place in found} == {"often": 10.0, "once": 30.0}


@pytest.mark.parametrize(("rival", "first"), [(0.58, "still"), (0.65, "rival")])
def test_a_frame_votes_once_for_a_beginning(rival: float, first: str) -> None:
    found = propose(
        clip(0.0),
        [[like(10.0, 0.6, "still"), like(10.1, 0.5, "still"), like(20.0, rival, "rival")]],
    )
    assert found[0].film == first


def test_votes_for_beginnings_side_by_side_are_counted_together() -> None:
    seen = [[like(moment, 0.5)] for moment in (5.0, 5.5, 6.0)]
    # Without its neighbours the middle one would be no better than this.
    seen[0].append(like(30.0, 0.6, "other"))
    found = propose(clip(0.0, 0.0, 0.0), seen)
    assert [(place.film, place.offset) for place in found] == [("one", 5.5), ("other", 30.0)]
    # A second apart they are not: each alone is worse than the other film.
    seen = [[like(5.0, 0.5)], [like(6.0, 0.5)], [like(30.0, 0.6, "other")]]
    found = propose(clip(0.0, 0.0, 0.0), seen)
    assert found[0].film == "other"


def test_of_equal_ones_the_order_is_fixed() -> None:
    seen = [like(50.0, 0.5, "b"), like(20.0, 0.5, "b"), like(9.0, 0.5, "a", "y")]
    seen.append(like(9.0, 0.5, "a", "x"))
    expected = [("a", "x", 9.0), ("a", "y", 9.0), ("b", "uid", 20.0), ("b", "uid", 50.0)]
    found = propose(clip(0.0), [seen])
    assert [(place.film, place.film_uid, place.offset) for place in found] == expected


@pytest.mark.parametrize(("apart", "places"), [(2.0, 1), (2.5, 2)])
def test_places_close_to_each_other_are_read_once(apart: float, places: int) -> None:
    found = propose(clip(0.0), [[like(10.0, 0.9), like(10.0 + apart, 0.8)]])
    assert len(found) == places
    assert found[0].offset == 10.0


def test_no_more_places_than_can_be_read() -> None:
    seen = [like(10.0 * number, 0.3 + 0.01 * number) for number in range(PROPOSALS + 4)]
    found = propose(clip(0.0), [seen])
    assert [place.offset for place in found] == [10.0 * number for number in range(11, 3, -1)]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([0.0], [(slice(0, 1), 7.5, 12.5)]),
        ([2.0, 7.0, 12.1], [(slice(0, 2), 9.5, 19.5), (slice(2, 3), 19.6, 24.6)]),
        (
            [float(second) for second in range(0, 68, 4)],
            [(slice(0, 16), 7.5, 72.5), (slice(16, 17), 71.5, 76.5)],
        ),
        (
            [*(4.0 * number for number in range(15)), 60.5],
            [(slice(0, 15), 7.5, 68.5), (slice(15, 16), 68.0, 73.0)],
        ),
        ([30.0, 34.0], [(slice(0, 2), 37.5, 46.5)]),
    ],
)
def test_windows_part_where_frames_do_and_after_a_minute(
    seconds: list[float], expected: list[tuple[slice, float, float]]
) -> None:
    found = list(windows(clip(*seconds), Place("one", "uid", 10.0)))
    assert [stretch for stretch, _, _ in found] == [stretch for stretch, _, _ in expected]
    assert [time for _, *times in found for time in times] == pytest.approx(
        [time for _, *times in expected for time in times]
    )


def test_a_place_is_shifted_as_far_either_way_as_an_indexed_row_may_be_off() -> None:
    assert shifts() == pytest.approx(0.04 * np.arange(-62, 63))


def test_a_frame_is_held_against_the_nearest_one_of_the_film() -> None:
    window = FilmWindow(np.array([10.0, 10.5, 11.0]), pictures(0, 1, 2))
    for shown, begins, ends in ((0, 9.5, 10.25), (1, 10.25, 10.75), (2, 10.75, 11.5)):
        alike = similarities(clip(1.0, shows=pictures(shown)), Place("one", "uid", 9.48), window)
        assert alike.dtype == np.float32 and alike.shape == (1, 125)
        wanted = 10.48 + shifts()
        expected = (wanted >= begins) & (wanted <= ends)
        assert np.array_equal(alike[0], expected.astype(np.float32)), shown


def test_each_frame_has_its_own_time() -> None:
    window = FilmWindow(np.arange(20.0, 30.0), pictures(*range(10)))
    alike = similarities(clip(0.0, 3.0, shows=pictures(2, 5)), Place("one", "uid", 22.0), window)
    assert alike[:, AT_ZERO].tolist() == [1.0, 1.0]
    alike = similarities(clip(0.0, 4.0, shows=pictures(2, 5)), Place("one", "uid", 22.0), window)
    assert alike[:, AT_ZERO].tolist() == [1.0, 0.0]


def test_the_opposite_is_not_less_than_nothing_alike() -> None:
    window = FilmWindow(np.array([10.0]), pictures(0))
    place = Place("one", "uid", 10.0)
    assert similarities(clip(0.0, shows=-pictures(0)), place, window).min() == 0.0
    alike = similarities(clip(0.0, shows=pictures(0)), place, window)
    assert np.array_equal(alike[0] == 1.0, np.abs(shifts()) <= 0.5)


def test_of_a_film_without_frames_there_nothing_is_alike() -> None:
    window = FilmWindow(np.empty(0), np.empty((0, SIZE), np.float32))
    alike = similarities(clip(0.0, 1.0), Place("one", "uid", 10.0), window)
    assert alike.dtype == np.float32
    assert np.array_equal(alike, np.zeros((2, 125)))


def laid(frames: int, **columns: list[float]) -> NDArray[np.float32]:
    """How alike a clip's frames are for shifts named by their steps: `at_5`, `before_30`."""
    found = np.zeros((frames, len(shifts())), np.float32)
    for name, values in columns.items():
        direction, _, steps = name.partition("_")
        found[:, AT_ZERO + (1 if direction == "at" else -1) * int(steps)] = values
    return found


def test_the_longest_run_of_like_frames_decides_on_the_shift() -> None:
    found = align(
        Place("one", "uid", 10.0),
        laid(
            6,
            at_5=[0.0, 0.85, 0.75, 0.8, 0.0, 0.9],
            # A neighbour is no rival, however good.
            at_29=[0.0, 0.8, 0.8, 0.75, 0.0, 0.0],
            # A second and more away one is.
            before_21=[0.65, 0.65, 0.0, 0.0, 0.0, 0.0],
        ),
    )
    assert found is not None
    assert (found.place.film, found.place.film_uid) == ("one", "uid")
    assert found.place.offset == pytest.approx(10.2)
    assert (found.first, found.last, found.frames) == (1, 3, 6)
    assert found.similarity == pytest.approx(0.8)
    assert found.score == pytest.approx(3 * 0.8 - 3 * ALIKE)
    assert found.rival == pytest.approx((2 * 0.65 - 2 * ALIKE) / found.score)
    assert found.confidence == 0.0


def test_a_run_goes_on_over_a_frame_that_costs_less_than_what_follows_gains() -> None:
    found = align(Place("one", "uid", 0.0), laid(5, at_0=[0.0, 0.9, 0.3, 0.9, 0.4]))
    assert found is not None
    assert (found.first, found.last, found.rival) == (1, 3, 0.0)
    assert found.score == pytest.approx(0.9 + 0.3 + 0.9 - 3 * ALIKE)
    found = align(Place("one", "uid", 0.0), laid(3, at_0=[0.6, 0.0, 0.7]))
    assert found is not None and (found.first, found.last) == (2, 2)


@pytest.mark.parametrize("alike", [0.0, 0.44, 0.45])
def test_nothing_alike_is_no_place(alike: float) -> None:
    assert align(Place("one", "uid", 0.0), laid(2, at_0=[alike, alike])) is None


def placed(offset: float = 0.0, *, film: str = "one", score: float = 10.0) -> Alignment:
    """A clip of 25 frames that lie on their like, all of them, as sure as unsure."""
    return Alignment(Place(film, "uid", offset), 0, 24, 25, 0.57, score, 0.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.5),
        ({"similarity": 0.595}, 1 / (1 + math.exp(-1))),
        ({"similarity": 0.545}, 1 / (1 + math.exp(1))),
        # Half of the clip's frames must be more alike, and so must few.
        ({"frames": 50, "similarity": 0.67}, 0.5),
        ({"first": 3, "last": 6, "frames": 4, "similarity": 0.675}, 0.5),
        ({"rival": 0.95}, 0.5),
        ({"rival": 0.975}, 0.4),
        ({"rival": 1.0}, 0.3),
    ],
)
def test_how_sure_one_is(changes: dict[str, Any], expected: float) -> None:
    (judged,) = judge([replace(placed(), **changes)])
    assert judged.confidence == pytest.approx(expected)
    assert judged.rival == changes.get("rival", 0.0)


def test_the_same_place_is_reported_once_with_what_speaks_most_for_it() -> None:
    found = judge([placed(10.0, score=5.0), placed(11.0, score=6.0), placed(12.5, score=4.0)])
    assert [(one.place.offset, one.score) for one in found] == [(11.0, 6.0), (12.5, 4.0)]
    found = judge([placed(10.0), replace(placed(10.0), place=Place("one", "other", 10.0))])
    assert len(found) == 2


def test_another_place_that_is_as_good_makes_it_doubtful() -> None:
    best, second = judge([placed(30.0, score=9.75), placed(10.0, score=10.0)])
    assert (best.place.offset, best.rival) == (10.0, 0.975)
    assert best.confidence == pytest.approx(0.4)
    assert (second.place.offset, second.rival) == (30.0, 1.0)
    assert second.confidence == pytest.approx(0.3)
    # Its own rival counts where it is greater.
    best, second = judge([replace(placed(10.0), rival=0.99), placed(30.0, score=1.0)])
    assert {one.place.offset: one.rival for one in (best, second)} == {10.0: 0.99, 30.0: 1.0}


def test_the_surest_comes_first_and_of_equal_ones_the_order_is_fixed() -> None:
    sure = replace(placed(50.0, score=4.0), similarity=0.9)
    found = judge([placed(20.0, film="b"), placed(90.0, film="a"), placed(30.0, film="a"), sure])
    assert [(one.place.film, one.place.offset) for one in found] == [
        ("one", 50.0),
        ("a", 30.0),
        ("a", 90.0),
        ("b", 20.0),
    ]
