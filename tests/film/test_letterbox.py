"""Bars are found exactly where they were put; pictures without bars are left alone."""

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from film.letterbox import NO_BARS, Bars, BarsFinder
from film.read.film_reader import FilmReader
from film.read.pictures import UPRIGHT, Renderer
from film.read.scaling import to_model_frame

FILM = Path(__file__).parents[2] / "examples" / "films" / "big_buck_bunny_60s.mp4"


@pytest.fixture(scope="module")
def shots() -> list[list[NDArray[np.uint8]]]:
    """Luma of pictures 1 s apart, in groups of four."""
    pictures: list[NDArray[np.uint8]] = []
    with FILM.open("rb") as file, FilmReader(file, sound=False) as reader:
        for number, (frame, _, _) in enumerate(reader.pictures()):
            if number % 24 == 0:
                pictures.append(frame.to_ndarray(format="gray").view(np.uint8))
    return [pictures[first : first + 4] for first in range(8, 56, 4)]


def framed(luma: NDArray[np.uint8], bars: Bars, level: int = 0) -> NDArray[np.uint8]:
    sides = ((bars.top, bars.bottom), (bars.left, bars.right))
    return np.pad(luma, sides, constant_values=level)


def found(pictures: list[NDArray[np.uint8]]) -> Bars:
    finder = BarsFinder()
    for picture in pictures:
        finder.add(picture)
    return finder.find()


BARS = st.one_of(
    st.builds(Bars, top=st.integers(4, 120), bottom=st.integers(4, 120)),
    st.builds(Bars, left=st.integers(4, 160), right=st.integers(4, 160)),
    st.builds(Bars, st.integers(4, 90), st.integers(4, 90), st.integers(4, 90), st.integers(4, 90)),
    st.builds(Bars, top=st.integers(4, 120)),
)


@settings(deadline=None, max_examples=60)
@given(shot=st.integers(0, 11), bars=BARS, level=st.integers(0, 50), seed=st.integers(0, 9))
def test_bars_are_found_exactly(
    shots: list[list[NDArray[np.uint8]]], shot: int, bars: Bars, level: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pictures = [framed(luma, bars, level) for luma in shots[shot]]
    noisy = [
        np.clip(picture + rng.integers(-2, 3, picture.shape), 0, 255).astype(np.uint8)
        for picture in pictures
    ]
    sides = found(noisy)
    # A picture's own edge may be as dark and still as a bar, a few rows of it.
    for side in ("left", "top", "right", "bottom"):
        assert abs(getattr(sides, side) - getattr(bars, side)) <= 3, (sides, bars)


def test_pictures_without_bars_are_left_alone(shots: list[list[NDArray[np.uint8]]]) -> None:
    assert [found(pictures) for pictures in shots] == [NO_BARS] * len(shots)


def test_dark_pictures_are_not_cropped(shots: list[list[NDArray[np.uint8]]]) -> None:
    rows = np.linspace(0, 1, shots[0][0].shape[0])[:, None]
    for pictures in shots:
        dark = [(picture * 0.2 * rows**2).astype(np.uint8) for picture in pictures]
        assert found(dark) == NO_BARS


@pytest.mark.parametrize("level", [0, 16, 255])
def test_a_picture_of_one_colour_has_no_bars(level: int) -> None:
    assert found([np.full((90, 160), level, np.uint8)] * 3) == NO_BARS


def test_no_picture_has_no_bars() -> None:
    assert BarsFinder().find() == NO_BARS


def test_a_logo_in_a_bar_does_not_hide_it(shots: list[list[NDArray[np.uint8]]]) -> None:
    bars = Bars(top=60, bottom=60)
    pictures = [framed(luma, bars) for luma in shots[3]]
    for picture in pictures:
        picture[15:45, 20:140] = picture[15:45, 20:140] // 2 + 100
    assert found(pictures) == bars


def test_a_bright_shape_on_black_is_no_picture_between_bars() -> None:
    rows, columns = np.mgrid[:180, :320]
    pictures = []
    for centre in (120, 160, 200):
        disc = (rows - 90) ** 2 + (columns - centre) ** 2 < 40**2
        pictures.append(np.where(disc, 220, 4).astype(np.uint8))
    assert found(pictures) == NO_BARS


def test_what_is_cropped_is_scaled_like_the_picture_itself() -> None:
    with FILM.open("rb") as file, FilmReader(file, sound=False) as reader:
        frame = next(picture for picture, pts, _ in reader.pictures() if pts > 0)
    rgb = frame.to_ndarray(format="rgb24").view(np.uint8)
    canvas = np.pad(rgb, ((60, 60), (41, 39), (0, 0)))
    stored = av.VideoFrame.from_ndarray(canvas, format="rgb24").reformat(format="yuv420p")
    cropped = Renderer(256, 144, Bars(41, 60, 39, 60)).render(stored, UPRIGHT)
    expected = to_model_frame(rgb)
    assert np.abs(cropped.astype(int) - expected.astype(int)).mean() < 3
    assert np.abs(cropped[:, :2].astype(int) - expected[:, :2].astype(int)).mean() < 8
