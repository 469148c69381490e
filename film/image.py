"""Single pictures as files: JPEG, PNG and WebP to RGB and back."""

import io
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from film.errors import ImageError

MAX_PIXELS = 1 << 26
"""Of a picture that is decoded: 67 megapixels, 192 MiB as RGB."""

QUALITY = 90
"""Of JPEG and WebP."""

_FORMATS = ("JPEG", "PNG", "WEBP")


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP file; EXIF orientation is applied, transparency lies on black.

    Returns:
        [H, W, 3] RGB.

    Raises:
        ImageError: it is none of the three, is cut off or damaged, or has too many pixels.
    """
    if not data:
        raise ImageError("the picture is empty; expected the bytes of a JPEG, PNG or WebP file")
    try:
        # Our own limit follows; Pillow's warning about large pictures would only be noise.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"the picture has {image.width} x {image.height} pixels; "
                f"at most {MAX_PIXELS} are decoded"
            )
        upright = ImageOps.exif_transpose(image)
        return np.asarray(_flatten(upright), dtype=np.uint8)
    except UnidentifiedImageError:
        raise ImageError("the bytes are no JPEG, PNG or WebP picture") from None
    except Image.DecompressionBombError:
        raise ImageError(f"the picture has more than {MAX_PIXELS} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError):
        # Pillow's decoders raise any of these on damaged data.
        raise ImageError("the picture is cut off or damaged and cannot be decoded") from None


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
