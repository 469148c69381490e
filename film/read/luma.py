"""The luma of decoded pictures, for detecting bars."""

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from film.read.scaling import SCALING


class LumaReader:
    """Reads the luma of decoded pictures, as they are stored."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def read(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Return a picture's luma, [H, W], 0 to 255."""
        grey = self._reformatter.reformat(
            frame,
            format="gray",
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING,
            threads=1,
        )
        return grey.to_ndarray().view(np.uint8)
