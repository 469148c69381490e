"""Limits on the size and processing of films and pictures."""

from dataclasses import dataclass, field

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits on what a film may expand to: 100 KB of H.264 can hold gigabytes of pictures."""

    picture_pixels: int = 1 << 24
    """Stored width x height of one picture: 4096 x 4096, so 4K passes and 8K does not. A decoder
    keeps up to 16 pictures and more, which bounds its memory to about 1 GiB."""
    pictures: int = 4_000_000
    """Pictures in one film: 46 hours at 24 a second."""
    decoded_bytes: int = 32 << 40
    """Bytes of all decoded pictures together: 5 hours of 10-bit 4K at 60 a second."""
    duration_seconds: int = 24 * 3600
    """Time from a film's first picture to its last."""
    packets_between_pictures: int = 1_000_000
    """Packets of all streams after one picture and before the next."""
    bytes_between_pictures: int = 256 << 20
    """Bytes of those packets."""


@dataclass(frozen=True, slots=True)
class FilmLimits:
    """Limits on one film in a process of its own."""

    read: ReadLimits = field(default_factory=ReadLimits)
    cpu_seconds: int = 24 * 3600
    """Processor seconds for the whole film."""
    cpu_seconds_per_second: float = 60.0
    """Processor seconds for each second of film, in addition to the initial allowance."""
    cpu_seconds_at_start: float = 20.0
    """Initial allowance of processor seconds, regardless of the film's length."""
    memory_bytes: int = 2 * GIB
    """Memory of the film's process."""
    output_bytes: int = 64 * GIB
    """Bytes of the film's output."""
    stall_seconds: float = 120.0
    """How long the film's process may be idle: not answering, computing or waiting for bytes."""


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """Limits on a single picture."""

    pixels: int = 1 << 26
    """Width x height of a picture file: 67 megapixels, 192 MiB as RGB."""
    seconds: float = 5.0
    """Processor time from the file to the model frame."""
    memory_bytes: int = 3 << 29
    """Memory of the decoding process."""
