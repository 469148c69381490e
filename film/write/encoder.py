"""Pictures to H.264, the same bits for the same pictures."""

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
"""Seconds to the second key frame: the first fragment is short, so that playing can begin."""
_GROUP = Fraction(2)
"""Seconds between key frames, each the beginning of a fragment and a place to seek to."""

_PRESETS = {
    Quality.DRAFT: {"preset": "superfast", "crf": "27"},
    Quality.STANDARD: {"preset": "faster", "crf": "20"},
    Quality.HIGH: {"preset": "medium", "crf": "12"},
}
# No B-frames: presentation order is decoding order, so nothing moves picture against sound. Key
# frames only where this module asks, by time. A short lookahead lets the first bytes go early.
_X264 = "keyint=infinite:scenecut=0:bframes=0:rc-lookahead=12:sync-lookahead=0"
_LEAD_OUT = 4
"""x264 gives less to pictures that none refers to: where the film goes on in another piece, that
would be seen as a flicker of 0.3 to 1 dB at the seam. The last picture is encoded so many times
more, and what comes of it is thrown away; costs 0.7 % of the bytes."""
_LARGE = 512 * 288
_LARGE_THREADS = 4
"""x264's result depends on the number of threads, so it is the same on every machine."""
_FALLBACK_RATE = Fraction(25)
_LEAST_TIMESCALE = 10_000
"""FFmpeg's muxer doubles a smaller one until it is at least this."""


class PictureEncoder:
    """Encodes pictures with their own times; packets come out with durations that join up."""

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
            rate: average pictures a second, for the encoder's decisions alone.
            quality: how much may be lost.
            short_start: whether the second key frame comes early.
            lead_out: whether the last pictures shall look as if others followed.
        """
        sane = rate is not None and 1 <= rate <= 1000
        stream = container.add_stream("libx264", rate=rate if sane else _FALLBACK_RATE)
        context = stream.codec_context
        context.width, context.height = size
        context.pix_fmt = "yuv420p"
        context.sample_aspect_ratio = sample_aspect_ratio
        # MP4 counts in whole parts of a second, and FFmpeg wants them small.
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
        """What the output's header says of the encoder and its settings."""
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
        """Return what is left; the last picture is shown for `last_duration` (film's time base)."""
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
        """Return the packets whose successor's time is known, and with it their duration."""
        ready = []
        while self._waiting and len(self._times) > 1:
            packet, time = self._waiting.popleft(), self._times.popleft()
            packet.pts = packet.dts = time
            packet.duration = self._times[0] - time
            packet.time_base = self.time_base
            ready.append(packet)
        return ready
