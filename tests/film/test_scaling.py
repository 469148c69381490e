"""The one definition of a model frame."""

import hashlib

import av
import numpy as np
import pytest

from film.read.scaling import Scaler, to_model_frame
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from tests.film.clips import picture


def test_any_size_becomes_a_model_frame() -> None:
    for width, height in ((1, 1), (3, 2), (255, 143), (256, 144), (1920, 1080), (100, 2000)):
        frame = to_model_frame(picture(3, max(width, 10), max(height, 10))[:height, :width])
        assert frame.shape == (144, 256, 3)
        assert frame.dtype == np.uint8
    assert (MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT) == (256, 144)


def test_a_model_frame_stays_as_it_is() -> None:
    frame = picture(5, 256, 144)
    same = to_model_frame(frame)
    assert np.array_equal(same, frame)
    assert same is not frame


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_a_flat_picture_stays_flat_and_its_level_stays(value: int) -> None:
    frame = to_model_frame(np.full((360, 640, 3), value, np.uint8))
    assert np.all(frame == value)


def test_the_definition_does_not_change() -> None:
    """What was trained on must be what is served: these bits may change only with the models."""
    rng = np.random.default_rng(1)
    digest = hashlib.sha256(to_model_frame(rng.integers(0, 256, (270, 480, 3), np.uint8)).data)
    assert digest.hexdigest() == (
        "ed5ba387ab80913f7f8a3d36f5cd296e9b7951236469c20664a632268ff1386f"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((10, 10, 3), np.float32),
    ],
)
def test_other_arrays_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        to_model_frame(wrong)


def test_rows_with_gaps_between_them() -> None:
    whole = picture(9, 640, 360)
    assert np.array_equal(
        to_model_frame(whole[:, ::2][::-1]), to_model_frame(whole[:, ::2][::-1].copy())
    )


def _yuv(
    colour: tuple[int, int, int], size: tuple[int, int], matrix: int, full: bool
) -> av.VideoFrame:
    """Make a flat YUV picture of an RGB colour by BT.709's or BT.601's own equations."""
    kr, kb = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]
    r, g, b = (value / 255 for value in colour)
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    scale, offset, chroma = (255, 0, 255) if full else (219, 16, 224)
    planes = [round(offset + scale * y), round(128 + chroma * cb), round(128 + chroma * cr)]
    frame = av.VideoFrame(*size, "yuv444p")
    for plane, value in zip(frame.planes, planes, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.color_range = 2 if full else 1
    return frame


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("size", "tag", "meant"),
    [
        ((320, 240), 1, 1),
        ((320, 240), 5, 5),
        ((320, 240), 6, 5),
        ((320, 240), 9, 9),
        ((320, 240), 2, 5),  # Untagged and small: BT.601.
        ((1280, 720), 2, 1),  # Untagged and large: BT.709.
        ((960, 720), 2, 1),
        ((1280, 720), 5, 5),
    ],
)
def test_matrix_and_range_are_respected(
    size: tuple[int, int], tag: int, meant: int, full: bool
) -> None:
    colour = (180, 60, 40)
    frame = _yuv(colour, size, meant, full)
    frame.colorspace = tag
    assert np.abs(Scaler(64, 36).scale(frame).reshape(-1, 3).astype(int) - colour).max() <= 2
