"""Small clips made with PyAV, so that no test needs a film from elsewhere.

Every picture carries its own number (`picture`, `number_of`), so that a test sees which picture it
got, and a coloured, lop-sided pattern, so that rotation, colour and shape can be seen as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tests.support.scheduling import ordinary_scheduling

RATE = 24
NUMBER_BITS = 10


def picture(
    number: int, width: int = 320, height: int = 180, step: float | None = None
) -> NDArray[np.uint8]:
    """Draw picture `number`, [height, width, 3] RGB: bits of the number on top, colours below.

    A yellow bar moves; `step` says where it is, by default at the picture's number.
    """
    image = np.full((height, width, 3), 96, np.uint8)
    bar, column = height // 4, width // NUMBER_BITS
    for bit in range(NUMBER_BITS):
        value = 235 if number >> bit & 1 else 20
        image[:bar, bit * column : (bit + 1) * column] = value
    half = width // 2
    image[bar : 2 * bar, :half] = (200, 30, 30)
    image[bar : 2 * bar, half:] = (30, 160, 30)
    image[2 * bar :, :half] = (30, 30, 200)
    x = half + int((number if step is None else step) * 5) % max(1, half - width // 10)
    image[2 * bar : 3 * bar, x : x + width // 10] = (220, 220, 40)
    return image


def number_of(image: NDArray[Any]) -> int:
    """Read the number off a picture of `picture`, at whatever size it is now."""
    height, width = image.shape[:2]
    row = image[height // 8].astype(np.int64).mean(axis=1)
    centres = [int((bit + 0.5) * (width // NUMBER_BITS)) for bit in range(NUMBER_BITS)]
    if width % NUMBER_BITS:
        centres = [int((bit + 0.5) * width / NUMBER_BITS) for bit in range(NUMBER_BITS)]
    return sum(1 << bit for bit, x in enumerate(centres) if row[x] > 127)


@dataclass(frozen=True)
class Track:
    """One sound track of a clip."""

    codec: str = "aac"
    rate: int = 48000
    channels: int = 2
    language: str = ""
    start: float = 0.0
    """Seconds after the picture's zero."""


@dataclass(frozen=True)
class Colour:
    """How a clip is tagged, by FFmpeg's numbers (H.273); 2 is unspecified, `range` 1 limited."""

    matrix: int = 1
    primaries: int = 1
    transfer: int = 1
    range: int = 1


@dataclass(frozen=True)
class Clip:
    """What a clip holds, for a test to compare with."""

    path: Path
    frames: int
    pts: list[int] = field(repr=False)
    """In `time_base`, as given to the encoder."""
    time_base: Fraction


def make_clip(
    path: Path,
    *,
    container: str | None = None,
    codec: str = "libx264",
    size: tuple[int, int] = (320, 180),
    frames: int = 24,
    rate: int | Fraction = RATE,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    pix_fmt: str = "yuv420p",
    interlaced: bool = False,
    rotation: int = 0,
    hflip: bool = False,
    sar: Fraction | int = 1,
    sound: Sequence[Track] = (),
    colour: Colour | None = None,
    options: dict[str, str] | None = None,
    movflags: str = "",
    container_options: dict[str, str] | None = None,
    cover: bool = False,
    picture_first: bool = True,
) -> Clip:
    """Write a clip to `path` and say what is in it.

    `container` is FFmpeg's name of the format, by default from the suffix; `rotation` is the
    clockwise turn for display; `pts` (in `time_base`) makes the frame rate variable; `interlaced`
    weaves two pictures a frame, top field first; `movflags` as FFmpeg's ("faststart", …); `cover`
    adds an attached PNG (MP4 only).
    """
    time_base = time_base or 1 / Fraction(rate)
    times = list(pts) if pts is not None else [int(i / rate / time_base) for i in range(frames)]
    mux_options = dict(container_options or {})
    if movflags:
        mux_options["movflags"] = movflags
    with av.open(path, "w", format=container, options=mux_options) as output:
        tracks: list[AudioStream] = []
        if not picture_first:
            tracks = [_add_track(output, track) for track in sound]
        video = _add_video(output, codec, size, rate, time_base, pix_fmt, options, interlaced)
        video.codec_context.sample_aspect_ratio = Fraction(sar)
        if colour is not None:
            video.codec_context.colorspace = colour.matrix
            video.codec_context.color_primaries = colour.primaries
            video.codec_context.color_trc = colour.transfer
            video.codec_context.color_range = colour.range
        if rotation or hflip:
            # FFmpeg counts counterclockwise.
            video.set_display_rotation(-rotation, hflip=hflip)
        if picture_first:
            tracks = [_add_track(output, track) for track in sound]
        if cover:
            _add_cover(output)
        seconds = float(times[-1] * time_base) + float(1 / Fraction(rate)) if times else 0.0
        sounds = [
            _Tone(stream, track, seconds) for stream, track in zip(tracks, sound, strict=True)
        ]
        for number, time in enumerate(times):
            frame = _frame(number, size, pix_fmt, colour, interlaced)
            frame.pts, frame.time_base = time, time_base
            output.mux(video.encode(frame))
            for tone in sounds:
                tone.until(output, float(time * time_base) + 0.1)
        output.mux(video.encode(None))
        for tone in sounds:
            tone.finish(output)
    if codec == "libsvtav1":
        ordinary_scheduling()
    return Clip(path, len(times), times, time_base)


def _add_video(
    output: av.container.OutputContainer,
    codec: str,
    size: tuple[int, int],
    rate: int | Fraction,
    time_base: Fraction,
    pix_fmt: str,
    options: dict[str, str] | None,
    interlaced: bool,
) -> VideoStream:
    all_options = {
        "libx264": {"preset": "ultrafast", "g": "12", "bf": "2", "crf": "15"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=error:keyint=12"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "g": "12", "b": "2M"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8", "g": "12", "b": "2M"},
        "libsvtav1": {"preset": "12", "svtav1-params": "lp=1:pred-struct=1"},
        "mpeg2video": {"g": "12", "bf": "2", "b": "4M"},
        "mpeg4": {"g": "12", "bf": "1", "b": "4M"},
    }.get(codec, {})
    if interlaced and codec == "libx264":
        all_options = all_options | {"x264-params": "tff=1"}
    if interlaced and codec == "mpeg2video":
        all_options = all_options | {"flags": "+ildct+ilme", "field_order": "tt"}
    stream = output.add_stream(codec, rate=rate, options=all_options | (options or {}))
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    stream.codec_context.time_base = time_base
    stream.thread_count = 1
    return stream


def _add_track(output: av.container.OutputContainer, track: Track) -> AudioStream:
    stream = output.add_stream(track.codec, rate=track.rate)
    assert isinstance(stream, AudioStream)
    stream.layout = "mono" if track.channels == 1 else "stereo"
    if track.language:
        stream.metadata["language"] = track.language
    return stream


def _add_cover(output: av.container.OutputContainer) -> None:
    stream = output.add_stream("png", rate=1)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
    stream.disposition = av.stream.Disposition.attached_pic
    output.start_encoding()
    frame = av.VideoFrame.from_ndarray(picture(0, 64, 64), format="rgb24")
    frame.pts, frame.time_base = 0, Fraction(1, 1)
    packets = stream.encode(frame) + stream.encode(None)
    output.mux(packets)


def _frame(
    number: int,
    size: tuple[int, int],
    pix_fmt: str,
    colour: Colour | None,
    interlaced: bool,
) -> av.VideoFrame:
    image = picture(number, *size)
    if interlaced:
        # The lower field is half a frame later: the moving bar combs.
        image = picture(number, *size, step=number * 3)
        image[1::2] = picture(number, *size, step=number * 3 + 1.5)[1::2]
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    matrix = colour.matrix if colour else 5
    full = colour is not None and colour.range == 2
    frame = frame.reformat(
        format=pix_fmt,
        dst_colorspace={1: 1, 9: 9}.get(matrix, 5),
        dst_color_range=2 if full else 1,
        interpolation=av.video.reformatter.Interpolation.BICUBIC,
    )
    if interlaced:
        frame = _mark_interlaced(frame)
    return frame


def _mark_interlaced(frame: av.VideoFrame) -> av.VideoFrame:
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=Fraction(1, 1000),
        ),
        graph.add("setfield", "tff"),
        graph.add("buffersink"),
    ).configure()
    graph.push(frame)
    marked = graph.vpull()
    return marked


class _Tone:
    """A sine for one track, written along with the picture."""

    def __init__(self, stream: AudioStream, track: Track, seconds: float) -> None:
        self.stream, self.track = stream, track
        self.first = round(track.start * track.rate)
        self.total = self.first + round(seconds * track.rate)
        self.next = self.first

    def until(self, output: av.container.OutputContainer, seconds: float) -> None:
        step = self.stream.codec_context.frame_size or 1024
        while self.next < min(self.total, round(seconds * self.track.rate)):
            output.mux(self.stream.encode(self._samples(min(step, self.total - self.next))))

    def finish(self, output: av.container.OutputContainer) -> None:
        self.until(output, self.total / self.track.rate)
        output.mux(self.stream.encode(None))

    def _samples(self, count: int) -> av.AudioFrame:
        t = np.arange(self.next, self.next + count) / self.track.rate
        wave = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
        interleaved = np.repeat(wave, self.track.channels).reshape(1, -1)
        layout = "mono" if self.track.channels == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
        frame.sample_rate, frame.pts = self.track.rate, self.next
        frame.time_base = Fraction(1, self.track.rate)
        self.next += count
        return frame
