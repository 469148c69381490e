"""The detail of a model frame: black and flat frames all look alike."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

FLAT_DETAIL: Final = 4.0
"""A frame with less detail than this is flat: black, white, faded out, fog. Below it nothing can be
recognised in frames of Big Buck Bunny and Sintel (fades, and dark up to a few sparks); the darkest
scenes in which something can have 5, most frames 20 to 60."""

_BLOCK = 8
"""Pixels: noise and compression artefacts average out over a block's 64."""


def frame_detail(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the detail of each frame: 0 (one colour) to 127.5 (black and white).

    In grey levels: the root mean square, over blocks of 8 x 8 pixels and over channels, of the
    difference between a block's mean colour and the frame's.

    Args:
        frames: [N, 144, 256, 3] RGB.

    Returns:
        [N]
    """
    count, height, width, channels = frames.shape
    rows = frames.reshape(count, height // _BLOCK, _BLOCK, width * channels).sum(2, np.uint16)
    blocks = rows.reshape(count, -1, _BLOCK, channels).sum(2, np.float32) / _BLOCK**2
    variance = blocks.var(axis=1, dtype=np.float64).mean(axis=1)
    detail: NDArray[np.float32] = np.sqrt(variance).astype(np.float32)
    return detail


def is_flat(detail: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return, for each frame's detail [N], whether nothing can be recognised in the frame."""
    flat: NDArray[np.bool_] = detail < FLAT_DETAIL
    return flat
