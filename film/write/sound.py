"""Sound tracks for the output: copied where browsers play them in MP4.

Times here are whole samples from the film's own zero; the writer shifts them to the output's.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import NamedTuple, Protocol

import av
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.stream import Disposition

_ADTS_RATES = (
    96000,
    88200,
    64000,
    48000,
    44100,
    32000,
    24000,
    22050,
    16000,
    12000,
    11025,
    8000,
    7350,
)
_AAC_LC = 2


class SoundUnit(NamedTuple):
    """One encoded packet of sound, ready for the output."""

    data: bytes
    time: int
    """Time of its first sample, including priming, in samples from the film's zero."""
    duration: int
    """Number of samples."""


class SoundTrackWriter(Protocol):
    """Turns one sound track's packets into the output's."""

    rate: int
    """The output's sample rate in Hz, the unit of its times."""
    priming: int
    """Samples at the beginning of the first unit that are not played."""
    given_up: bool
    """Whether nothing of the track can be decoded; it then never has any units."""

    def push(self, packet: av.Packet[AudioStream]) -> list[SoundUnit]:
        """Take the film's next packet; return what is ready."""

    def finish(self) -> list[SoundUnit]:
        """Return the remaining units at the film's end."""

    def add_to(self, container: OutputContainer) -> AudioStream:
        """Add the track to the output; raises ValueError or av.FFmpegError if that fails."""

    def warnings(self) -> list[str]:
        """Say what was repaired or left out, one sentence each."""


class CopiedTrack:
    """A track whose packets are copied to the output, payload byte for byte."""

    def __init__(self, stream: AudioStream, name: str) -> None:
        """Set up for a stream of the film; `name` is what warnings call it."""
        context = stream.codec_context
        self.rate = context.sample_rate
        self.priming = 0
        self.given_up = False
        self._stream = stream
        self._name = name
        self._frame_size = _frame_size(stream)
        self._extradata = context.extradata
        self._adts: BitStreamFilterContext | None = None
        if context.codec.canonical_name == "aac" and not context.extradata:
            self._adts = BitStreamFilterContext("aac_adtstoasc", in_stream=stream)
            self._extradata = _audio_specific_config(context.sample_rate, context.channels)
        self._last: SoundUnit | None = None
        self._repaired = 0
        self._unreadable = 0

    def push(self, packet: av.Packet[AudioStream]) -> list[SoundUnit]:
        """Take the film's next packet; return it without the container's framing."""
        base, stamp, nominal = packet.time_base, packet.pts, packet.duration or 0
        if stamp is None:
            stamp = packet.dts
        trimmed = _trimmed_samples(packet)
        units: list[SoundUnit] = []
        for data in self._payloads(packet):
            time = self._place(stamp, base, trimmed)
            stamp = None  # If the filter splits a packet, only the first part has its time.
            self._last = SoundUnit(data, time, self._duration(nominal, base))
            units.append(self._last)
        return units

    def finish(self) -> list[SoundUnit]:
        """Return nothing: no packet is buffered."""
        return []

    def add_to(self, container: OutputContainer) -> AudioStream:
        """Add the track with its codec's parameters."""
        added = container.add_stream_from_template(self._stream)
        added.codec_context.extradata = self._extradata
        describe(added, self._stream)
        return added

    def warnings(self) -> list[str]:
        """Say what was repaired or left out."""
        found = []
        if self._repaired:
            found.append(
                f"{self._name}: {self._repaired} packets had times that did not advance; "
                "they were put one after the other."
            )
        if self._unreadable:
            found.append(f"{self._name}: {self._unreadable} damaged packets were left out.")
        return found

    def _payloads(self, packet: av.Packet[AudioStream]) -> list[bytes]:
        if not packet.size:
            return []
        if self._adts is None:
            return [bytes(packet)]
        try:
            filtered = self._adts.filter(packet)
        except av.FFmpegError:
            self._unreadable += 1
            return []
        for each in filtered:
            if each.has_sidedata("new_extradata"):
                self._extradata = bytes(each.get_sidedata("new_extradata"))
        return [bytes(each) for each in filtered]

    def _duration(self, nominal: int, base: Fraction) -> int:
        """Return a packet's length in samples; a coarse clock rounds it, the codec does not."""
        told = nominal * base * self.rate
        if self._frame_size and (not nominal or abs(told - self._frame_size) < self._slack(base)):
            return self._frame_size
        return max(1, round(told))

    def _place(self, stamp: int | None, base: Fraction, trimmed: int) -> int:
        last = self._last
        if last is None:
            return self._place_first(stamp or 0, base, trimmed)
        expected = last.time + last.duration
        if stamp is None:
            return expected
        time = round(stamp * base * self.rate)
        if abs(time - expected) < self._slack(base):
            return expected
        if time <= last.time:
            self._repaired += 1
            return expected
        return time

    def _place_first(self, stamp: int, base: Fraction, trimmed: int) -> int:
        self.priming = trimmed
        if not trimmed or base <= Fraction(1, self.rate):
            return round(stamp * base * self.rate)
        # The demuxer moved the packet back by its priming, rounded to the container's coarse tick;
        # audible sound begins on a tick.
        heard = stamp + int(Fraction(trimmed, self.rate) / base + Fraction(1, 2))
        return round(heard * base * self.rate) - trimmed

    def _slack(self, base: Fraction) -> Fraction:
        """Return the error of a time, in samples, due to a clock coarser than the sample rate.

        Zero for clocks as fine as the samples, as in MP4: their times are kept unchanged. Those of
        transport streams and Matroska are rounded to ticks; the codec's own packet length restores
        the exact time, as FFmpeg does when it copies.
        """
        inexact = (base * self.rate).denominator > 1 or base * self.rate > 1
        return base * self.rate + 1 if inexact and self._frame_size else Fraction(0)


def describe(added: AudioStream, source: AudioStream) -> None:
    """Copy the language, title and disposition of the film's stream to an output stream."""
    if source.language:
        added.metadata["language"] = source.language
    title = source.metadata.get("title") or source.metadata.get("handler_name")
    if title:
        added.metadata["handler_name"] = title
    added.disposition = source.disposition & Disposition.default


def _frame_size(stream: AudioStream) -> int:
    """Return the number of samples per packet; 0 if it varies or is unknown."""
    context = stream.codec_context
    if context.codec.canonical_name == "flac" and context.extradata_size >= 4:
        least, most = struct.unpack_from(">HH", context.extradata or b"")
        return most if least == most else 0
    return context.frame_size


def _trimmed_samples(packet: av.Packet[AudioStream]) -> int:
    if not packet.has_sidedata("skip_samples"):
        return 0
    (samples,) = struct.unpack_from("<I", bytes(packet.get_sidedata("skip_samples")))
    return int(samples)


def _audio_specific_config(rate: int, channels: int) -> bytes:
    """Return the AAC configuration that ADTS headers imply, used until a packet has its own."""
    index = _ADTS_RATES.index(rate) if rate in _ADTS_RATES else _ADTS_RATES.index(48000)
    layout = 7 if channels == 8 else min(channels, 6)
    return struct.pack(">H", _AAC_LC << 11 | index << 7 | layout << 3)
