"""The way from one latent to another."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.search.interpolation import Mode, interpolate

numbers = st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
latents = hnp.arrays(np.float32, 200, elements=numbers)
steps = st.integers(2, 60)


@settings(max_examples=25, deadline=None)
@given(first=latents, last=latents, count=steps, mode=st.sampled_from(Mode))
def test_both_ends_are_there_as_given_and_all_between_is_finite(first, last, count, mode) -> None:
    found = interpolate(first, last, count, mode)
    assert found.shape == (count, 200) and found.dtype == np.float32
    assert np.array_equal(found[0], first) and np.array_equal(found[-1], last)
    assert np.isfinite(found).all()


@settings(max_examples=25, deadline=None)
@given(first=latents, last=latents, count=steps)
def test_linear_steps_are_even(first, last, count) -> None:
    found = interpolate(first, last, count, Mode.LINEAR)
    step = (last.astype(np.float64) - first) / (count - 1)
    assert np.allclose(np.diff(found, axis=0), step, atol=1e-4)


def angle(one, other) -> float:
    one, other = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64)) for x in (one, other))
    return 2 * np.arctan2(np.linalg.norm(one - other), np.linalg.norm(one + other))


@settings(max_examples=25, deadline=None)
@given(first=latents, last=latents, count=steps)
def test_spherical_steps_are_even_in_angle_and_length(first, last, count) -> None:
    lengths = [np.linalg.norm(first.astype(np.float64)), np.linalg.norm(last.astype(np.float64))]
    found = interpolate(first, last, count, Mode.SPHERICAL)
    expected = np.linspace(lengths[0], lengths[1], count)
    assert np.allclose(np.linalg.norm(found.astype(np.float64), axis=1), expected, atol=1e-3)
    if min(lengths) > 0:
        step = angle(first, last) / (count - 1)
        turns = [angle(found[at], found[at + 1]) for at in range(count - 1)]
        assert np.allclose(turns, step, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(first=latents, last=latents, count=steps, mode=st.sampled_from(Mode))
def test_the_way_back_is_the_same_way(first, last, count, mode) -> None:
    there = interpolate(first, last, count, mode)
    back = interpolate(last, first, count, mode)[::-1]
    both = np.linalg.norm(first.astype(np.float64)), np.linalg.norm(last.astype(np.float64))
    # Of the many half circles between opposites, each end chooses its own.
    assume(mode is Mode.LINEAR or not all(both) or np.pi - angle(first, last) > 1e-3)
    assert np.allclose(there, back, atol=1e-2)


def unit(place: int, length: float) -> np.ndarray:
    vector = np.zeros(200, np.float32)
    vector[place] = length
    return vector


def test_between_right_angles_lies_the_diagonal() -> None:
    found = interpolate(unit(0, 3), unit(1, 3), 3, Mode.SPHERICAL)
    assert np.allclose(found[1], (unit(0, 1) + unit(1, 1)) * 3 / np.sqrt(2))


def test_in_the_same_direction_only_the_length_changes() -> None:
    found = interpolate(unit(7, 1), unit(7, 5), 5, Mode.SPHERICAL)
    assert np.allclose(found, [unit(7, length) for length in (1, 2, 3, 4, 5)])


def test_opposites_are_joined_by_a_half_circle_of_the_mean_lengths() -> None:
    found = interpolate(unit(0, 2), unit(0, -2), 181, Mode.SPHERICAL).astype(np.float64)
    assert np.allclose(np.linalg.norm(found, axis=1), 2)
    assert np.allclose([angle(found[at], found[at + 1]) for at in range(180)], np.pi / 180)
    assert np.array_equal(found, interpolate(unit(0, 2), unit(0, -2), 181, Mode.SPHERICAL))


def test_from_nothing_a_latent_grows_in_its_own_direction() -> None:
    nothing = np.zeros(200, np.float32)
    found = interpolate(nothing, unit(3, 4), 5, Mode.SPHERICAL)
    assert np.allclose(found, [unit(3, length) for length in (0, 1, 2, 3, 4)])
    assert not interpolate(nothing, nothing, 4, Mode.SPHERICAL).any()


def test_less_than_both_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="not 1"):
        interpolate(unit(0, 1), unit(1, 1), 1, Mode.LINEAR)
