"""FFmpeg's MP4 muxer without its buffering and timestamp guessing, writing to a sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from film.write.header import complete_header
from film.write.mp4_timing import Placement

MAX_CHUNK_BYTES = 1 << 20
"""Maximum bytes per call of the sink."""

MAX_DURATION = 0x7FFFFFFF
"""Ticks: FFmpeg limits a packet's duration to this, and shifts the packets after it."""

_OPTIONS = {
    "movflags": "empty_moov+default_base_moof+frag_keyframe+frag_discont",
    # Times are correct already: FFmpeg must not shift them, reorder packets or wait for any.
    "avoid_negative_ts": "disabled",
    "use_editlist": "0",
    "max_interleave_delta": "1",
    "flush_packets": "1",
    # A fragment is kept in memory until it ends, and sound alone would never end one.
    "frag_size": str(8 << 20),
    "strict": "experimental",
    "fflags": "bitexact",
}


class Muxer:
    """Writes fragments that begin with key frames. Streams are added to `container` first."""

    def __init__(self, sink: Callable[[bytes], None], *, piece: bool = False) -> None:
        """Set up.

        Args:
            sink: gets at most `MAX_CHUNK_BYTES` at a time, and may block or raise.
            piece: the output is a piece of a film, without the index at its end.
        """
        self.bytes = 0
        """Bytes passed to the sink."""
        self._sink = sink
        self._buffer = _Buffer()
        options = dict(_OPTIONS)
        if piece:
            options["movflags"] += "+skip_trailer"
        self.container = av.open(
            self._buffer,
            "w",
            format="mp4",
            container_options=options,
            buffer_size=MAX_CHUNK_BYTES,
        )

    def begin(
        self,
        placements: Sequence[Placement],
        movie_timescale: int,
        duration: Fraction | None,
        fragment: int = 1,
    ) -> None:
        """Write the header.

        Args:
            placements: every stream's, in order.
            movie_timescale: the header's ticks a second.
            duration: the film's, in seconds, if known.
            fragment: the number of the first fragment.
        """
        self._placements = placements
        self.container.container_options["movie_timescale"] = str(movie_timescale)
        self.container.container_options["fragment_index"] = str(fragment)
        self.container.start_encoding()
        header = self._buffer.take()
        self._give(complete_header(header, placements, movie_timescale, duration))

    def write(
        self,
        packet: av.Packet[VideoStream] | av.Packet[AudioStream],
        stream: VideoStream | AudioStream,
        time: int,
        duration: int,
    ) -> None:
        """Write a packet; `time` (in the film) and `duration` in the stream's ticks.

        Each duration must end exactly where the stream's next packet begins: MP4 stores durations.
        """
        packet.stream = stream  # The packet becomes one of the output's.
        packet.time_base = stream.time_base or Fraction(1)
        # Negative only if a late track's start was guessed, and then by a few ticks.
        packet.pts = packet.dts = max(0, time + self._placements[stream.index].shift)
        packet.duration = min(duration, MAX_DURATION)
        self.container.mux_one(packet)
        self._give(self._buffer.take())

    def end(self) -> None:
        """Write the last fragment and the end of the file."""
        self.container.close()
        self._give(self._buffer.take())

    def abandon(self) -> None:
        """Write nothing more, and release `container`'s streams, encoders and their threads."""
        self._buffer.closed = True
        # PyAV's containers and streams reference each other until one is closed.
        self.container.close()

    def _give(self, data: bytes) -> None:
        for at in range(0, len(data), MAX_CHUNK_BYTES):
            chunk = data[at : at + MAX_CHUNK_BYTES]
            self._sink(chunk)
            self.bytes += len(chunk)


class _Buffer:
    """FFmpeg's output buffer. The sink is called outside FFmpeg, where it may block and raise."""

    def __init__(self) -> None:
        self.closed = False
        """If true, PyAV does not write the trailer when its container is deleted."""
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep bytes until they are taken."""
        self._parts.append(data)
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data
