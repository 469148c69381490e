"""Decodes picture packets, and counts those that cannot be decoded."""

from __future__ import annotations

import os

import av
from av.stream import Stream
from av.video.stream import VideoStream

from film.errors import FilmLimitError
from film.limits import ReadLimits

_THREADS = 4
_ROOM_BYTES = 6
"""Bytes per pixel: for two pictures of 10 bits, with as much chroma as luma data."""
_DRAIN_TRIES = 1000
"""Damaged pictures that a decoder may return at the film's end."""


class PictureDecoder:
    """Decodes one stream within limits; damage costs pictures, not the film."""

    def __init__(self, stream: VideoStream, limits: ReadLimits) -> None:
        self._context = stream.codec_context
        self._context.options = {"max_pixels": str(limits.picture_pixels)}
        self._context.thread_type = "AUTO"
        self._context.thread_count = min(_THREADS, len(os.sched_getaffinity(0)))
        self._limits = limits
        self._bytes = 0
        self.pictures = 0
        """Decoded so far."""
        self.marred = 0
        """Decoded pictures that the decoder marks as damaged."""
        self.lost_packets = 0
        """Packets that could not be decoded."""
        self.lost_in_a_row = 0
        """Packets that could not be decoded since the last picture."""

    def decode(self, packet: av.Packet[Stream] | None) -> list[av.VideoFrame]:
        """Decode a packet; None drains the decoder at the film's end.

        Raises:
            FilmLimitError: the pictures are too large or too many.
        """
        frames: list[av.VideoFrame] = []
        for _ in range(_DRAIN_TRIES if packet is None else 1):
            try:
                decoded = self._context.decode(packet)
            except EOFError:
                break
            except MemoryError:
                raise  # FFmpeg's own as well: not damage to the film.
            except av.FFmpegError as error:
                self._check_memory()
                self._note_loss(error)
                continue
            if not decoded:
                break
            frames += decoded
            self.lost_in_a_row = 0
        for frame in frames:
            self._count(frame)
        return frames

    def forget(self) -> None:
        """Drop all packets so far; the next one must be a key frame."""
        self._context.flush_buffers()

    def to_json(self) -> dict[str, int]:
        """Return the counts so far, as plain JSON."""
        return {"pictures": self.pictures, "bytes": self._bytes}

    def restore(self, data: dict[str, int]) -> None:
        """Continue counting from what `to_json` returned, with no damage before."""
        self.pictures, self._bytes = data["pictures"], data["bytes"]
        self.marred = self.lost_packets = 0

    def _check_memory(self) -> None:
        """Raise MemoryError if none is left for another picture: decoders report that as damage."""
        pixels = self._context.width * self._context.height
        bytearray(min(pixels, self._limits.picture_pixels) * _ROOM_BYTES)

    def _note_loss(self, error: av.FFmpegError) -> None:
        """Count a damaged packet; raise FilmLimitError for one whose pictures are too large.

        FFmpeg returns EINVAL for a size that is not allowed, without the size. Between good
        pictures such a size is damage.
        """
        if isinstance(error, av.ArgumentError) and not self.pictures:
            raise FilmLimitError(
                f"the film's pictures are larger than the {self._limits.picture_pixels} pixels "
                "that are decoded",
                "picture_pixels",
            )
        self.lost_packets += 1
        self.lost_in_a_row += 1

    def _count(self, frame: av.VideoFrame) -> None:
        self.pictures += 1
        self.marred += frame.is_corrupt
        sample_bytes = 2 if frame.format.components[0].bits > 8 else 1
        self._bytes += frame.width * frame.height * sample_bytes * 3 // 2
        if self.pictures > self._limits.pictures:
            raise FilmLimitError(
                f"the film holds more than {self._limits.pictures} pictures", "pictures"
            )
        if self._bytes > self._limits.decoded_bytes:
            raise FilmLimitError(
                f"the film's pictures expand to more than {self._limits.decoded_bytes} bytes",
                "decoded_bytes",
            )
