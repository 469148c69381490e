"""Encodes pictures to H.264 deterministically."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import av
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from film.output import Quality
from film.write.compose import tag_bt709

_FIRST_GROUP = Fraction(1, 2)
"""Seconds to the second key frame: a short first fragment lets playback start early."""
_GROUP = Fraction(2)
"""Seconds between key frames, each the start of a fragment and a seek point."""

_PRESETS = {
    Quality.DRAFT: {"preset": "superfast", "crf": "27"},
    Quality.STANDARD: {"preset": "faster", "crf": "20"},
    Quality.HIGH: {"preset": "medium", "crf": "12"},
}
# No B-frames: presentation order is decoding order, so picture and sound are not shifted. Key
# frames only where this module asks, by time. A short lookahead lets the first bytes out early.
_X264 = "keyint=infinite:scenecut=0:bframes=0:rc-lookahead=12:sync-lookahead=0"
_LEAD_OUT = 4
"""x264 spends fewer bits on pictures that no other refers to: where the film continues in another
piece, that would show as a flicker of 0.3 to 1 dB at the seam. The last picture is encoded this
many more times and the result is discarded; costs 0.7 % of the bytes."""
_LARGE = 512 * 288
_LARGE_THREADS = 4
"""x264's result depends on the number of threads, so the number is the same on every machine."""
_FALLBACK_RATE = Fraction(25)
_LEAST_TIMESCALE = 10_000
"""FFmpeg's muxer doubles a smaller timescale until it is at least this."""


class PictureEncoder:
    """Encodes pictures with their own times; the durations of its packets leave no gaps."""

    def __init__(
        self,
        container: OutputContainer,
        size: tuple[int, int],
        sample_aspect_ratio: Fraction,
        time_base: Fraction,
        rate: Fraction | None,
        quality: Quality,
        *,
        short_start: bool = True,
        lead_out: bool = False,
    ) -> None:
        """Add a video stream to `container`.

        Args:
            container: the output.
            size: width and height, even.
            sample_aspect_ratio: the shape of a pixel.
            time_base: the unit of the pictures' times, in seconds.
            rate: average pictures a second, only for the encoder's decisions.
            quality: how much may be lost.
            short_start: whether the second key frame comes early.
            lead_out: whether to encode the last pictures as if others followed.
        """
        sane = rate is not None and 1 <= rate <= 1000
        stream = container.add_stream("libx264", rate=rate if sane else _FALLBACK_RATE)
        context = stream.codec_context
        context.width, context.height = size
        context.pix_fmt = "yuv420p"
        context.sample_aspect_ratio = sample_aspect_ratio
        # MP4 ticks are whole fractions of a second, and FFmpeg wants them small.
        fine = 1
        while time_base.denominator * fine < _LEAST_TIMESCALE:
            fine *= 2
        self._ticks = time_base.numerator * fine
        self.time_base = Fraction(1, time_base.denominator * fine)
        context.time_base = stream.time_base = self.time_base
        context.thread_count = _LARGE_THREADS if size[0] * size[1] > _LARGE else 1
        context.options = {**_PRESETS[quality], "x264-params": _X264, "forced-idr": "1"}
        tag_bt709(context)
        context.open()
        self.stream: VideoStream = stream
        self._last: av.VideoFrame | None = None
        self._lead_out = _LEAD_OUT if lead_out else 0
        self._last_key: Fraction | None = None
        self._first_group = _FIRST_GROUP if short_start else _GROUP
        self._group = self._first_group
        self._times: deque[int] = deque()
        self._waiting: deque[av.Packet[VideoStream]] = deque()

    @property
    def extradata(self) -> bytes:
        """The encoder's parameters as stored in the output's header."""
        return self.stream.codec_context.extradata or b""

    def encode(self, picture: av.VideoFrame, pts: int) -> list[av.Packet[VideoStream]]:
        """Take the next picture, `pts` in the film's time base.

        Returns:
            Packets that are ready, `dts` and `duration` in `time_base`.
        """
        time = pts * self._ticks
        picture.pts, picture.time_base = time, self.time_base
        seconds = time * self.time_base
        if self._last_key is None or seconds - self._last_key >= self._group:
            picture.pict_type = PictureType.I
            self._group = self._first_group if self._last_key is None else _GROUP
            self._last_key = seconds
        self._times.append(time)
        if self._lead_out:
            self._last = picture
        self._waiting.extend(self.stream.encode(picture))
        return self._ready()

    def finish(self, last_duration: int) -> list[av.Packet[VideoStream]]:
        """Return the remaining packets; the last picture lasts `last_duration` (film time base)."""
        step = last_duration * self._ticks
        if self._last is not None:
            self._encode_again(self._last, self._lead_out, step)
        self._waiting.extend(self.stream.encode(None))
        if self._last is not None:
            for _ in range(self._lead_out):
                self._waiting.pop()
        if self._times:
            self._times.append(self._times[-1] + step)
        return self._ready()

    def _encode_again(self, picture: av.VideoFrame, count: int, step: int) -> None:
        picture.pict_type = PictureType.NONE
        for number in range(1, count + 1):
            picture.pts = self._times[-1] + number * step
            self._waiting.extend(self.stream.encode(picture))

    def _ready(self) -> list[av.Packet[VideoStream]]:
        """Return the packets whose duration is known because their successor's time is."""
        ready = []
        while self._waiting and len(self._times) > 1:
            packet, time = self._waiting.popleft(), self._times.popleft()
            packet.pts = packet.dts = time
            packet.duration = self._times[0] - time
            packet.time_base = self.time_base
            ready.append(packet)
        return ready
