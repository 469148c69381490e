"""Distorts whole films as they are distorted in practice.

Each distorted film is re-encoded as H.264; all but the low-quality one at a normal quality.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from film.read.scaling import SCALING, source_matrix

GOOD_CRF = 23


@dataclass(frozen=True, slots=True)
class Brightening:
    """Levels between 0 and 1 become `gain * level ** gamma + offset`."""

    gain: float
    gamma: float
    offset: float

    def table(self) -> NDArray[np.uint8]:
        """Return the lookup table of the 256 levels."""
        levels = np.arange(256) / 255.0
        changed = self.gain * levels**self.gamma + self.offset
        return np.clip(np.rint(changed * 255.0), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Watermark:
    """A plate with letters in a corner."""

    text: str
    right: bool
    bottom: bool
    width: float
    """Of the picture's width."""
    height: float
    """Of the picture's height."""
    opacity: float


@dataclass(frozen=True, slots=True)
class Distortion:
    """The steps of a distortion, in this order."""

    name: str
    brightening: Brightening | None = None
    watermark: Watermark | None = None
    canvas: Fraction | None = None
    """Aspect ratio with bars; None: no bars."""
    size: tuple[int, int] | None = None
    """Width and height to scale to, ignoring the aspect ratio; None: unscaled."""
    crf: int = GOOD_CRF
    """x264's quality; 23 is its default, 51 the worst."""


def together(name: str, *distortions: Distortion) -> Distortion:
    """Combine distortions; later settings win."""
    whole = Distortion(name)
    for one in distortions:
        whole = replace(
            whole,
            brightening=one.brightening or whole.brightening,
            watermark=one.watermark or whole.watermark,
            canvas=one.canvas or whole.canvas,
            size=one.size or whole.size,
            crf=max(one.crf, whole.crf),
        )
    return whole


def distort(
    source: Path,
    target: Path,
    distortion: Distortion,
    *,
    every: int = 1,
    first: int = 0,
    last: int | None = None,
) -> None:
    """Write a distorted film; its pictures keep their presentation times.

    Args:
        source: the film.
        target: where to write an MP4.
        distortion: what to do to it.
        every: takes every n-th picture only.
        first: number of the first picture to take.
        last: number of the last picture; None: the film's last.
    """
    with av.open(str(target), "w", format="mp4") as output:
        stream = None
        draw = _Drawing(distortion)
        for frame in _pictures(source, every, first, last):
            picture = av.VideoFrame.from_ndarray(draw(_rgb(frame)), format="rgb24")
            if stream is None:
                stream = output.add_stream("libx264", rate=24)
                stream.width, stream.height = distortion.size or (picture.width, picture.height)
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": str(distortion.crf), "preset": "veryfast"}
                stream.codec_context.time_base = _time_base(frame)
            picture = picture.reformat(
                stream.width,
                stream.height,
                "yuv420p",
                dst_colorspace="ITU601",
                interpolation=SCALING,
            )
            picture.pts, picture.time_base = frame.pts, _time_base(frame)
            output.mux(stream.encode(picture))
        if stream is not None:
            output.mux(stream.encode(None))


class _Drawing:
    """Distorts pictures, [H, W, 3] RGB; the plate is drawn once."""

    def __init__(self, distortion: Distortion) -> None:
        self._distortion = distortion
        brightening = distortion.brightening
        self._table = brightening.table() if brightening is not None else None
        self._plate: NDArray[np.float32] | None = None

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._table is not None:
            picture = self._table[picture]
        if self._distortion.watermark is not None:
            picture = self._marked(picture, self._distortion.watermark)
        if self._distortion.canvas is not None:
            picture = with_bars(picture, self._distortion.canvas)
        return picture

    def _marked(self, picture: NDArray[np.uint8], mark: Watermark) -> NDArray[np.uint8]:
        high, wide = picture.shape[:2]
        height, width = round(mark.height * high), round(mark.width * wide)
        if self._plate is None:
            self._plate = _plate(mark.text, width, height)
        top = high - height - high // 40 if mark.bottom else high // 40
        left = wide - width - wide // 40 if mark.right else wide // 40
        marked = picture.copy()
        place = marked[top : top + height, left : left + width]
        place[:] = np.rint(place * (1 - mark.opacity) + self._plate * mark.opacity)
        return marked


def with_bars(picture: NDArray[np.uint8], canvas: Fraction) -> NDArray[np.uint8]:
    """Centre a picture on the smallest black canvas of this aspect ratio."""
    high, wide = picture.shape[:2]
    height = max(high, 2 * round(wide / canvas / 2))
    width = max(wide, 2 * round(high * canvas / 2))
    framed = np.zeros((height, width, 3), np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    framed[top : top + high, left : left + wide] = picture
    return framed


def _plate(text: str, width: int, height: int) -> NDArray[np.float32]:
    plate = Image.new("RGB", (width, height), (30, 60, 160))
    draw = ImageDraw.Draw(plate)
    draw.rectangle((2, 2, width - 3, height - 3), outline=(255, 255, 255), width=2)
    font = ImageFont.load_default(size=height * 0.5)
    draw.text((width / 2, height / 2), text, (255, 255, 255), font=font, anchor="mm")
    return np.asarray(plate, np.float32)


def _pictures(source: Path, every: int, first: int, last: int | None) -> Iterator[av.VideoFrame]:
    with av.open(str(source)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if last is not None and number > last:
                return
            if number >= first and (number - first) % every == 0:
                yield frame


def _time_base(frame: av.VideoFrame) -> Fraction:
    if frame.time_base is None:
        raise ValueError("the film's pictures have no times")
    return frame.time_base


def _rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    scaled = VideoReformatter().reformat(
        frame, format="rgb24", src_colorspace=source_matrix(frame), interpolation=SCALING
    )
    return scaled.to_ndarray().view(np.uint8)
