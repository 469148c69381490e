"""x264 and SVT-AV1 at a given number of bytes a frame, on the same frames as the models.

Frames are encoded to a file and decoded, 4:2:0 and 8 bits, BT.709, at 24 frames a second. Bytes are
those of the packets, without the container. The parameter for a size is found by a search over
whole encodes: the logarithm of the size is nearly linear in the encoder's parameter.
"""

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from film.read.scaling import SCALING
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from tests.support.scheduling import ordinary_scheduling
from trainer.durable import replace_text

# SVT-AV1 prints its settings to stderr unless it logs errors only.
os.environ.setdefault("SVT_LOG", "1")

_RATE = 24
_BATCH = 32
_TOLERANCE = 0.02
NEAR = 0.01
"""Relative tolerance of the search for sizes that are compared as equal."""
_TRIES = 10
_START_BYTES = 220

Frames = Callable[[], Iterator[NDArray[np.uint8]]]
"""Returns a new iterator over a film's frames in batches, uint8 ``[N, 144, 256, 3]``."""


@dataclass(frozen=True, slots=True)
class Codec:
    """An encoder, and the parameter that determines its size."""

    name: str
    encoder: str
    options: Callable[[float], Mapping[str, str]]
    bit_rate: Callable[[float], int | None]
    lowest: float
    highest: float
    step: float
    """The parameter's smallest difference."""
    start: float
    """Gives about `_START_BYTES` a frame."""
    slope: float
    """About the change of log2(size) with the parameter."""


X264 = Codec(
    name="x264 medium",
    encoder="libx264",
    options=lambda number: {"preset": "medium", "crf": f"{number:.1f}"},
    bit_rate=lambda number: None,
    lowest=0.0,
    highest=51.0,
    step=0.1,
    start=30.0,
    slope=-1 / 6,
)
AV1 = Codec(
    name="SVT-AV1 preset 6",
    encoder="libsvtav1",
    # Only this encoder takes quarter steps.
    options=lambda number: {"preset": "6", "svtav1-params": f"crf={number:.2f}"},
    bit_rate=lambda number: None,
    lowest=1.0,
    highest=70.0,
    step=0.25,
    start=46.0,
    slope=-1 / 15,
)
# The same encoders at a target bit rate, in one pass; the parameter is log2 of bit/s.
X264_AT_RATE = Codec(
    name="x264 medium, target bit rate",
    encoder="libx264",
    options=lambda number: {"preset": "medium"},
    bit_rate=lambda number: round(2**number),
    lowest=10.0,
    highest=26.0,
    step=0.001,
    start=math.log2(200 * 8 * _RATE),
    slope=1.0,
)
AV1_AT_RATE = Codec(
    name="SVT-AV1 preset 6, target bit rate",
    encoder="libsvtav1",
    options=lambda number: {"preset": "6"},
    bit_rate=lambda number: round(2**number),
    lowest=10.0,
    highest=26.0,
    step=0.001,
    start=math.log2(200 * 8 * _RATE),
    slope=1.0,
)


@dataclass(frozen=True, slots=True)
class Coded:
    """An encoded film."""

    path: Path
    codec: str
    bytes_a_frame: float
    number: float
    """The encoder's parameter."""


def encode_at(
    codec: Codec,
    frames: Frames,
    bytes_a_frame: float,
    path: Path,
    on_try: Callable[[str], None],
    *,
    near: float = NEAR,
) -> Coded:
    """Encode a film at so many bytes a frame, within a tolerance if the encoder can.

    An existing encode at this path is reused. If the encoder cannot reach the size, the result is
    the nearest one.
    """
    note = path.with_suffix(".json")
    if path.exists() and note.exists():
        return Coded(**{**json.loads(note.read_text("utf-8")), "path": path})
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}")
    tried: dict[float, float] = {}
    number = codec.start + math.log2(bytes_a_frame / _START_BYTES) / codec.slope
    while True:
        number = _on_grid(codec, number)
        tried[number] = _encode(codec, number, frames, staged)
        on_try(f"{codec.name}: {tried[number]:.1f} bytes a frame, {bytes_a_frame:.0f} wanted")
        following = _next(codec, tried, bytes_a_frame, near)
        if following is None or len(tried) == _TRIES:
            break
        number = following
    best = min(tried, key=lambda each: abs(math.log(tried[each] / bytes_a_frame)))
    if best != number:
        _encode(codec, best, frames, staged)
    staged.replace(path)
    coded = Coded(path, codec.name, tried[best], best)
    replace_text(note, json.dumps({**asdict(coded), "path": path.name}) + "\n")
    return coded


def is_equal(coded: Coded, bytes_a_frame: float) -> bool:
    """Return whether a film was encoded at so many bytes, within 2 %."""
    return abs(coded.bytes_a_frame / bytes_a_frame - 1) <= _TOLERANCE


def decode(coded: Coded) -> Iterator[NDArray[np.uint8]]:
    """Decode a film in order, in batches uint8 ``[N, 144, 256, 3]``."""
    reformatter = VideoReformatter()
    with av.open(str(coded.path)) as container:
        pictures = (
            reformatter.reformat(
                frame,
                format="rgb24",
                src_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
                interpolation=SCALING,
            ).to_ndarray()
            for frame in container.decode(video=0)
        )
        while batch := list(itertools.islice(pictures, _BATCH)):
            yield np.stack(batch).astype(np.uint8, copy=False)


def _encode(codec: Codec, number: float, frames: Frames, path: Path) -> float:
    """Encode a film; return the bytes a frame."""
    reformatter = VideoReformatter()
    size = count = 0
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream(
            codec.encoder, rate=_RATE, options=dict(codec.options(number))
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        rate = codec.bit_rate(number)
        if rate is not None:
            stream.bit_rate = rate
        for picture in itertools.chain.from_iterable(frames()):
            frame = reformatter.reformat(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=SCALING,
            )
            frame.pts, frame.time_base = count, Fraction(1, _RATE)
            count += 1
            for packet in stream.encode(frame):
                size += packet.size
                container.mux(packet)
            if count == 1:  # the encoder has been opened
                ordinary_scheduling()
        for packet in stream.encode(None):
            size += packet.size
            container.mux(packet)
    return size / count


def _next(codec: Codec, tried: Mapping[float, float], wanted: float, near: float) -> float | None:
    """Guess the number from what was tried; none where that is near, or as near as it comes."""
    off = {number: math.log2(size / wanted) for number, size in tried.items()}
    best = min(off, key=lambda number: abs(off[number]))
    if abs(tried[best] / wanted - 1) <= near:
        return None
    below = max((number for number in off if off[number] <= 0), key=off.__getitem__, default=None)
    above = min((number for number in off if off[number] > 0), key=off.__getitem__, default=None)
    if below is None or above is None:
        guess = _on_grid(codec, best - off[best] / codec.slope)
    else:
        share = -off[below] / (off[above] - off[below])
        guess = _on_grid(codec, below + (above - below) * share)
    if guess not in tried:
        return guess
    if abs(tried[best] / wanted - 1) <= max(near, _TOLERANCE):
        return None
    # Sizes of a short film jump up and down from one step to the next: the neighbours may do.
    step = math.copysign(codec.step, -off[best] * codec.slope)
    if _on_grid(codec, best + step) == best:
        return None  # the encoder goes no further
    neighbours = (_on_grid(codec, best + count * step) for count in (1, -1, 2, -2, 3, -3))
    return next((number for number in neighbours if number not in tried), None)


def _on_grid(codec: Codec, number: float) -> float:
    rounded = round(round(number / codec.step) * codec.step, 6)
    return min(max(rounded, codec.lowest), codec.highest)
