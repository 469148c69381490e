"""How large a film may be before reading it is refused."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits on what a film may expand to: 100 KB of H.264 can hold gigabytes of pictures."""

    picture_pixels: int = 1 << 24
    """Stored width x height of one picture: 4096 x 4096, so 4K passes and 8K does not. A decoder
    keeps up to 16 pictures and more, which bounds its memory to about 1 GiB."""
    frames: int = 4_000_000
    """Pictures in one film: 46 hours at 24 a second."""
    decoded_bytes: int = 32 << 40
    """Bytes of all decoded pictures together: 5 hours of 10-bit 4K at 60 a second."""
