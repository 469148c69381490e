"""Transcodes sound that browsers do not play in MP4 to AAC."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from numpy.typing import NDArray

from film.write.sound import SoundUnit, describe

_AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_FRAME_SAMPLES = 1024
_BITS_PER_CHANNEL = 80_000
_TOLERANCE = Fraction(1, 100)
"""Seconds that a packet's time may be off before sound is cut or silence inserted."""
_LONGEST_SILENCE = 10
"""Seconds: a longer gap is not filled."""
_HOPELESS = 50
"""After this many packets of which none can be decoded, the track is dropped."""


class EncodedTrack:
    """A track that is transcoded to AAC, keeping its times."""

    def __init__(self, stream: AudioStream, name: str) -> None:
        """Set up for a stream of the film; `name` is what warnings call it."""
        context = stream.codec_context
        self.rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        self.priming = _FRAME_SAMPLES
        self.given_up = False
        self._stream = stream
        self._name = name
        self._layout = _layout_for(context.channels)
        self._encoder = AudioCodecContext.create("aac", "w")
        self._set_up(self._encoder)
        self._encoder.open()
        self._resampler: AudioResampler | None = None
        self._accepted: tuple[str, str, int] | None = None
        self._tolerance = self.rate * max(_TOLERANCE, 2 * (stream.time_base or Fraction(0)))
        channels = self._encoder.layout.nb_channels
        self._pending: NDArray[np.float32] = np.zeros((channels, 0), np.float32)
        self._time = 0
        """Start of `_pending`, in samples from the film's zero."""
        self._started = False
        self._decoded = False
        self._undecodable = 0
        self._overlap = 0

    def push(self, packet: av.Packet[AudioStream]) -> list[SoundUnit]:
        """Decode the film's next packet; return the units that are ready."""
        if self.given_up or not packet.size:
            return []
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.FFmpegError:
            self._undecodable += 1
            self.given_up = not self._decoded and self._undecodable >= _HOPELESS
            return []
        return [unit for frame in frames for unit in self._take(frame)]

    def finish(self) -> list[SoundUnit]:
        """Return the remaining sound."""
        units: list[SoundUnit] = []
        if not self.given_up:
            try:
                frames = self._stream.codec_context.decode(None)
            except av.FFmpegError:
                frames = []
            units.extend(unit for frame in frames for unit in self._take(frame))
        units.extend(self._drain_resampler())
        if self._started:
            units.extend(self._encode_pending(final=True))
            units.extend(self._units(self._encoder.encode(None)))
        return units

    def add_to(self, container: OutputContainer) -> AudioStream:
        """Add the track as AAC."""
        added = container.add_stream("aac", rate=self.rate)
        self._set_up(added.codec_context)
        describe(added, self._stream)
        return added

    def warnings(self) -> list[str]:
        """Say what was left out."""
        if self._undecodable and not self._decoded:
            return [f"{self._name}: its sound cannot be decoded; the track was left out."]
        found = []
        if self._undecodable:
            found.append(f"{self._name}: {self._undecodable} damaged packets were left out.")
        if self._overlap:
            seconds = self._overlap / self.rate
            found.append(f"{self._name}: {seconds:.3f} s of sound overlapped and were left out.")
        return found

    def _set_up(self, encoder: AudioCodecContext) -> None:
        encoder.sample_rate = self.rate
        encoder.format = "fltp"
        encoder.layout = self._layout
        encoder.time_base = Fraction(1, self.rate)
        encoder.bit_rate = encoder.layout.nb_channels * _BITS_PER_CHANNEL * self.rate // 48000

    def _take(self, frame: av.AudioFrame) -> Iterator[SoundUnit]:
        self._decoded = True
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or kind != self._accepted:
            yield from self._drain_resampler()
            self._resampler = AudioResampler(format="fltp", layout=self._layout, rate=self.rate)
            self._accepted = kind
        for part in self._resampler.resample(frame):
            yield from self._append(part)

    def _drain_resampler(self) -> Iterator[SoundUnit]:
        if self._resampler is not None:
            for part in self._resampler.resample(None):
                yield from self._append(part)
        self._resampler = None

    def _append(self, frame: av.AudioFrame) -> Iterator[SoundUnit]:
        """Append decoded sound at its time, inserting silence or cutting its beginning."""
        samples = frame.to_ndarray().astype(np.float32, copy=False)
        time = None
        if frame.pts is not None and frame.time_base is not None:
            time = round(frame.pts * frame.time_base * self.rate)
        if self._started and time is not None:
            off = time - self._time - self._pending.shape[1]
            if off > _LONGEST_SILENCE * self.rate:
                yield from self._encode_pending(final=True)
                self._time = time
            elif off > self._tolerance:
                self._pending = np.pad(self._pending, ((0, 0), (0, off)))
            elif -_LONGEST_SILENCE * self.rate < off < -self._tolerance:
                self._overlap += min(-off, samples.shape[1])
                samples = samples[:, -off:]
        elif not self._started:
            self._time = time or 0
            self._started = True
        self._pending = np.concatenate((self._pending, samples), axis=1)
        yield from self._encode_pending()

    def _encode_pending(self, *, final: bool = False) -> Iterator[SoundUnit]:
        while self._pending.shape[1] >= _FRAME_SAMPLES or (final and self._pending.shape[1]):
            block = self._pending[:, :_FRAME_SAMPLES]
            self._pending = self._pending[:, _FRAME_SAMPLES:]
            short = _FRAME_SAMPLES - block.shape[1]
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(np.pad(block, ((0, 0), (0, short)))),
                format="fltp",
                layout=self._layout,
            )
            frame.sample_rate = self.rate
            frame.pts, frame.time_base = self._time, Fraction(1, self.rate)
            self._time += block.shape[1]
            yield from self._units(self._encoder.encode(frame))

    def _units(self, packets: list[av.Packet[AudioStream]]) -> Iterator[SoundUnit]:
        for packet in packets:
            if packet.pts is not None and packet.size:
                yield SoundUnit(bytes(packet), packet.pts, packet.duration or _FRAME_SAMPLES)


def _layout_for(channels: int) -> str:
    if channels == 1:
        return "mono"
    return "5.1" if channels >= 6 else "stereo"
