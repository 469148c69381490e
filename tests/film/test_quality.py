import numpy as np
import pytest

from film.quality import FLAT_DETAIL, frame_detail, is_flat


def test_one_colour_has_no_detail() -> None:
    frames = np.zeros((3, 144, 256, 3), np.uint8)
    frames[1] = 255
    frames[2] = (200, 30, 90)

    assert frame_detail(frames).tolist() == [0, 0, 0]
    assert frame_detail(frames).dtype == np.float32


def test_half_black_half_white_has_the_most() -> None:
    frame = np.zeros((1, 144, 256, 3), np.uint8)
    frame[:, :72] = 255

    assert frame_detail(frame) == pytest.approx([127.5])


def test_colours_of_one_brightness_are_detail() -> None:
    frame = np.zeros((1, 144, 256, 3), np.uint8)
    frame[:, :, :128, 0], frame[:, :, 128:, 1] = 150, 150

    assert not is_flat(frame_detail(frame)).any()


def test_noise_on_black_is_flat() -> None:
    """Grain and compression do not make a picture of a black frame."""
    noise = np.random.default_rng(0).integers(0, 24, (4, 144, 256, 3), np.uint8)

    assert is_flat(frame_detail(noise)).all()


def test_a_fade_becomes_flat_at_its_end() -> None:
    picture = np.indices((144, 256)).sum(0)[..., np.newaxis] * np.array([0.6, 0.5, 0.4])
    fade = np.stack([picture * share for share in (1.0, 0.5, 0.25, 0.05)]).astype(np.uint8)

    detail = frame_detail(fade)

    assert (np.diff(detail) < 0).all()
    assert is_flat(detail).tolist() == [False, False, False, True]
    assert detail[2] > FLAT_DETAIL
