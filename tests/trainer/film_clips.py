"""Clips with known cuts, made with PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 320, 180


def scene(number: int, moment: int) -> NDArray[np.uint8]:
    """A picture of scene `number` as its camera pans: scenes differ, moments of one hardly do."""
    colours = np.random.default_rng(number).integers(0, 256, (6, 12, 3), dtype=np.uint8)
    wide = Image.fromarray(colours).resize((WIDTH * 2, HEIGHT), Image.Resampling.BICUBIC)
    left = moment % WIDTH
    return np.asarray(wide)[:, left : left + WIDTH]


def write_clip(
    path: Path, pictures: list[NDArray[np.uint8]], rate: int = 24, pts: list[int] | None = None
) -> Path:
    """Write pictures as an MP4; at a steady rate, or at times in 1/90000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.width, stream.height = pictures[0].shape[1], pictures[0].shape[0]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast"}
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 90000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[number], Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def clip_of_scenes(path: Path, lengths: list[int], rate: int = 24) -> Path:
    """Write scenes of these lengths, one after another."""
    pictures = [
        scene(number, moment) for number, length in enumerate(lengths) for moment in range(length)
    ]
    return write_clip(path, pictures, rate)
