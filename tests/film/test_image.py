"""Single pictures in and out."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from film.errors import ImageError, ImageLimitError
from film.image import decode_image, encode_image


def _gradient(height: int = 40, width: int = 60) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)


def _file(picture: Image.Image, kind: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_keeps_every_pixel() -> None:
    picture = _gradient()
    assert np.array_equal(decode_image(encode_image(picture, "png")), picture)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_lossy_formats_stay_close(kind: Any) -> None:
    picture = _gradient()
    again = decode_image(encode_image(picture, kind))
    assert again.shape == picture.shape
    assert np.abs(again.astype(int) - picture).mean() < 4


def test_exif_orientation_is_applied() -> None:
    picture = Image.fromarray(_gradient())
    exif = Image.Exif()
    exif[0x0112] = 6  # Stored turned; to be shown turned clockwise by 90 degrees.
    turned = decode_image(_file(picture, "PNG", exif=exif))
    assert np.array_equal(turned, np.rot90(_gradient(), -1))


def test_grey_palette_transparent_and_16_bit_pictures() -> None:
    grey = _gradient()[..., 0]
    assert np.array_equal(
        decode_image(_file(Image.fromarray(grey), "PNG")), np.repeat(grey[..., None], 3, axis=2)
    )
    wide = Image.fromarray((grey.astype(np.uint16) << 8) + 7)
    assert np.array_equal(decode_image(_file(wide, "PNG"))[..., 1], grey)
    clear = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    assert decode_image(_file(clear, "PNG")).max() == 0
    palette = Image.fromarray(_gradient()).quantize(16)
    assert np.array_equal(decode_image(_file(palette, "PNG")), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"not a picture at all", "no JPEG, PNG or WebP"),
        (encode_image(_gradient(), "png")[:120], "cut off or damaged"),
        (encode_image(_gradient(), "jpeg")[:300], "cut off or damaged"),
        (_file(Image.new("RGB", (8, 8)), "GIF"), "no JPEG, PNG or WebP"),
        (_file(Image.new("RGB", (8, 8)), "TIFF"), "no JPEG, PNG or WebP"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode_image(data)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_of_too_many_pixels_is_refused(kind: Any) -> None:
    file = encode_image(_gradient(), kind)
    assert decode_image(file, max_pixels=2400).shape == (40, 60, 3)
    with pytest.raises(ImageLimitError, match="more than 2399 pixels"):
        decode_image(file, max_pixels=2399)


@settings(deadline=None, max_examples=200)
@given(
    kind=st.sampled_from(["png", "jpeg", "webp"]),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=20),
    length=st.integers(0, 3000),
)
def test_damaged_pictures_raise_nothing_else(
    kind: Any, changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(encode_image(_gradient(), kind))[:length]
    for position, value in changes:
        if position < len(data):
            data[position] = value
    try:
        decoded = decode_image(bytes(data))
    except ImageError:
        return
    assert decoded.dtype == np.uint8
    assert decoded.shape[2] == 3
