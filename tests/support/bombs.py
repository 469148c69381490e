"""Small films that are expensive to read; each function says how."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_OPUS_SILENCE = b"\xf8"
"""A whole Opus packet: its first byte alone, for 20 ms of nothing."""
_MILLISECOND = Fraction(1, 1000)


def sound_packets(path: Path, packets: int, *, picture_first: bool = True) -> Path:
    """Write a Matroska film of two pictures and, between or before them, Opus packets of one byte.

    A packet takes 8 bytes of the film and, as an object, about 3,000 bytes of memory.
    """
    with av.open(path, "w", format="matroska") as output:
        video = output.add_stream("mpeg4", rate=24)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = output.add_stream("libopus", rate=48000)
        sound.codec_context.open()
        pictures = list(_encoded(video, 2))
        if picture_first:
            output.mux(pictures.pop(0))
        for number in range(packets):
            packet = av.Packet(_OPUS_SILENCE)
            packet.stream, packet.time_base, packet.duration = sound, _MILLISECOND, 20
            packet.pts = packet.dts = 20 * number
            output.mux(packet)
        for number, picture in enumerate(pictures):
            picture.time_base = _MILLISECOND
            picture.pts = picture.dts = 20 * packets + 40 * number
            output.mux(picture)
    return path


def repeated_pictures(path: Path, pictures: int, side: int, *, seconds_each: Fraction) -> Path:
    """Write an MP4 of large pictures of which all but the first only say "as before".

    Each takes a few hundred bytes of the film and, decoded, `side` x `side` x 1.5 bytes.
    """
    with av.open(path, "w", format="mp4") as output:
        video = output.add_stream("libx264", rate=24)
        video.width = video.height = side
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 90_000)
        video.codec_context.options = {
            "preset": "ultrafast",
            "x264-params": "keyint=infinite:scenecut=0:bframes=0:rc-lookahead=0:threads=1",
        }
        grey = av.VideoFrame.from_ndarray(np.full((side, side), 90, np.uint8), format="gray")
        still = grey.reformat(format="yuv420p")
        for number in range(pictures):
            still.pts = int(number * seconds_each * 90_000)
            still.time_base = Fraction(1, 90_000)
            output.mux(video.encode(still))
        output.mux(video.encode(None))
    return path


def _encoded(stream: av.VideoStream, count: int) -> Iterator[av.Packet]:
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 80 * number, np.uint8))
        frame.pts, frame.time_base = number, Fraction(1, 24)
        yield from stream.encode(frame)
    yield from stream.encode(None)
