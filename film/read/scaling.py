"""The one definition of a model frame: how a picture becomes 256 x 144 RGB.

Trainer and service share it, so training and serving see the same frames. swscale's result depends
on the CPU unless its flags have bitexact, accurate_rnd and a filter.

The filter is bicubic. Measured on Big Buck Bunny, Sintel and a 720p screen recording (scaled down,
and up again to compare with the source): 0.1 to 0.25 dB behind Lanczos and as much before area
averaging, at two thirds of Lanczos' time; on a zone plate it leaves no more aliasing than Lanczos
(area: fifty times as much), on a hard edge it rings by 2 grey levels where Lanczos rings by 3.
"""

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH

SCALING = (
    Interpolation.BICUBIC
    | Interpolation.BITEXACT
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
)
"""The flags of every scaling in `film`; with full chroma interpolation, since otherwise two pixels
of RGB would share one chroma value."""

SCALING_FLAGS = "bicubic+bitexact+accurate_rnd+full_chroma_int"
"""The same flags as `SCALING`, as a filter graph spells them."""

_KNOWN_MATRICES = frozenset((0, 1, 4, 5, 6, 7, 9))
"""H.273 MatrixCoefficients that swscale converts: identity, 709, FCC, 601 (two), 240M, 2020."""


def source_matrix(frame: av.VideoFrame) -> Colorspace | None:
    """Return the YUV matrix to read a frame with; None: the one that the frame is tagged with.

    Untagged pictures follow the convention of players: BT.709 from 720 lines or 1280 columns on,
    BT.601 below.
    """
    if frame.colorspace in _KNOWN_MATRICES:
        return None
    large = frame.height >= 720 or frame.width >= 1280
    return Colorspace.ITU709 if large else Colorspace.ITU601


class Scaler:
    """Scales decoded pictures of any format to RGB at one size; not thread-safe."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._reformatter = VideoReformatter()

    def scale(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Scale a picture; the whole picture fills the size. [height, width, 3] RGB."""
        scaled = self._reformatter.reformat(
            frame,
            width=self.width,
            height=self.height,
            format="rgb24",
            src_colorspace=source_matrix(frame),
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING,
            threads=1,
        )
        return rgb_array(scaled)


def rgb_array(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Copy an rgb24 picture into an array, [H, W, 3]."""
    array = frame.to_ndarray()
    if array.dtype != np.uint8:
        raise TypeError(f"expected an 8-bit RGB picture, got {frame.format.name}")
    return array.view(np.uint8)


def to_model_frame(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale one picture to a model frame.

    Args:
        rgb: [H, W, 3] RGB.

    Returns:
        [144, 256, 3] RGB; always a copy.

    Raises:
        ValueError: `rgb` has another shape or type.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape or rgb.dtype != np.uint8:
        raise ValueError(f"expected uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    if rgb.shape[:2] == (MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH):
        return rgb.copy()
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return Scaler(MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT).scale(frame)
