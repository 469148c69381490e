from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.split import block_numbers, held_out

TIME_BASES = st.sampled_from(
    [Fraction(1, 24), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 1_000_000)]
)


@st.composite
def films(draw: st.DrawFn) -> tuple[np.ndarray, Fraction, int, int]:
    """Frames at irregular times; some films begin far from zero, or before it."""
    time_base = draw(TIME_BASES)
    second = time_base.denominator / time_base.numerator
    gaps = draw(st.lists(st.floats(0.02, 7.0), min_size=1, max_size=120))
    start = draw(st.integers(-(10**6), 10**9))
    steps = np.maximum(1, (np.array(gaps) * second).astype(np.int64))
    pts = start + np.concatenate([[0], np.cumsum(steps)])
    return pts[:-1], time_base, start, int(pts[-1])


@given(films())
def test_a_block_is_held_out_as_a_whole(film: tuple[np.ndarray, Fraction, int, int]) -> None:
    pts, time_base, start, end = film
    chosen = held_out(pts, time_base, start, end)
    blocks = block_numbers(pts, time_base, start)
    for block in np.unique(blocks):
        assert len(set(chosen[blocks == block])) == 1


@given(films())
def test_every_fifth_whole_block_and_no_other(film: tuple[np.ndarray, Fraction, int, int]) -> None:
    pts, time_base, start, end = film
    chosen = held_out(pts, time_base, start, end)
    for frame, is_held_out in zip(pts.tolist(), chosen.tolist(), strict=True):
        seconds = (frame - start) * time_base
        block = int(seconds // 10)
        assert 10 * block <= seconds < 10 * (block + 1)
        is_whole = (block + 1) * 10 <= (end - start) * time_base
        assert is_held_out == (block % 5 == 4 and is_whole)


@given(films())
def test_blocks_follow_one_another_without_gaps(
    film: tuple[np.ndarray, Fraction, int, int],
) -> None:
    pts, time_base, start, _ = film
    blocks = block_numbers(pts, time_base, start)
    assert blocks[0] == 0
    assert (np.diff(blocks) >= 0).all()


def test_a_minute_at_24_frames_holds_out_its_fifth_block() -> None:
    pts = np.arange(1440)
    chosen = np.flatnonzero(held_out(pts, Fraction(1, 24), 0, 1440))
    assert chosen.tolist() == list(range(960, 1200))


def test_a_block_that_the_film_does_not_fill_is_fitted() -> None:
    pts = np.arange(49 * 24)
    assert not held_out(pts, Fraction(1, 24), 0, 49 * 24).any()
