"""Single pictures as files: JPEG, PNG and WebP to RGB and back."""

import io
import struct
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from film.errors import ImageError, ImageLimitError
from film.limits import PictureLimits

MAX_PIXELS = PictureLimits().pixels

QUALITY = 90
"""Encoding quality of JPEG and WebP."""

_ROWS = 1024
_FORMATS = ("JPEG", "PNG", "WEBP")


def decode_image(data: bytes | bytearray, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP file; EXIF orientation is applied, transparency is put on black.

    Only the first frame of an animation is decoded. Not thread-safe.

    Returns:
        [H, W, 3] RGB.

    Raises:
        ImageLimitError: it has more than `max_pixels`; checked before decoding.
        ImageError: it is none of the three, or is truncated or damaged.
        MemoryError: there is not enough memory.
    """
    if not data:
        raise ImageError("the picture is empty; expected the bytes of a JPEG, PNG or WebP file")
    # Pillow checks the size before it creates a decoder, and raises at twice this number.
    Image.MAX_IMAGE_PIXELS = max_pixels // 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            ImageOps.exif_transpose(image, in_place=True)
        return _rgb(image)
    except UnidentifiedImageError:
        raise ImageError("the bytes are no JPEG, PNG or WebP picture") from None
    except Image.DecompressionBombError:
        raise ImageLimitError(f"the picture has more than {max_pixels} pixels", "pixels") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        TypeError,
        struct.error,
    ) as error:
        if "out of memory" in str(error):
            raise MemoryError from None
        # Pillow's decoders raise any of these on damaged data.
        raise ImageError("the picture is cut off or damaged and cannot be decoded") from None


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return a picture's pixels, [H, W, 3]; converts some rows at a time: that takes copies."""
    if image.height <= _ROWS:
        return np.asarray(_flatten(image), dtype=np.uint8)
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _ROWS):
        rows = image.crop((0, top, image.width, min(image.height, top + _ROWS)))
        rgb[top : top + _ROWS] = np.asarray(_flatten(rows))
    return rgb


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        ground = Image.new("RGBA", with_alpha.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, with_alpha).convert("RGB")
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey to 255 instead of scaling it.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def encode_image(frame: NDArray[np.uint8], format: Literal["png", "jpeg", "webp"]) -> bytes:
    """Encode a picture, [H, W, 3] RGB; JPEG and WebP with quality 90, PNG lossless."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(frame))
    if format == "png":
        image.save(buffer, "PNG", compress_level=3)
    elif format == "jpeg":
        image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    else:
        image.save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()
