"""Converts decoded model frames to the pictures to encode: scaled, side by side, as YUV.

The conversion uses exactly the matrix and range that the output is tagged with: BT.709, limited.
"""

from typing import TypeVar

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from numpy.typing import NDArray

from film.output import Layout
from film.read.scaling import SCALING, Scaler

_MATRIX_BT709 = 1  # AVCOL_SPC_BT709
_TO_YUV = SCALING | Interpolation.FULL_CHR_H_INP

_Tagged = TypeVar("_Tagged", av.VideoFrame, VideoCodecContext)


class Composer:
    """Makes output pictures; not thread-safe."""

    def __init__(self, layout: Layout, size: tuple[int, int]) -> None:
        """Set up for output pictures of `size` (width, height), both sides together."""
        self._side_by_side = layout is Layout.SIDE_BY_SIDE
        width, height = size
        self._scaler = Scaler(width // 2 if self._side_by_side else width, height)
        self._to_yuv = VideoReformatter()

    def compose(self, source: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> av.VideoFrame:
        """Return the picture to encode, yuv420p, tagged.

        Args:
            source: the source's picture, [H, W, 3] RGB; only shown side by side.
            decoded: the reconstruction, [144, 256, 3] RGB.
        """
        shown = self._fit(decoded)
        if self._side_by_side:
            shown = np.concatenate((self._fit(source), shown), axis=1)
        picture = self._to_yuv.reformat(
            _rgb_frame(shown),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_TO_YUV,
            threads=1,
        )
        return tag_bt709(picture)

    def _fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if image.shape[:2] == (self._scaler.height, self._scaler.width):
            return image
        return self._scaler.scale(_rgb_frame(image))


def tag_bt709(target: _Tagged) -> _Tagged:
    """Tag a picture or an encoder as BT.709 in limited range."""
    target.colorspace = _MATRIX_BT709
    target.color_primaries = ColorPrimaries.BT709
    target.color_trc = ColorTrc.BT709
    target.color_range = ColorRange.MPEG
    return target


def _rgb_frame(image: NDArray[np.uint8]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
