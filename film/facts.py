"""A film's facts, from its container and first packets."""

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction


class SoundAction(Enum):
    """How a sound track gets into the output."""

    COPY = "copy"
    TRANSCODE = "transcode"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """One sound track of a film."""

    codec: str
    sample_rate: int
    """Samples a second."""
    channels: int
    language: str
    """ISO 639-2; empty if the container does not specify it."""
    action: SoundAction


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """One film's picture and sound, before any of it is decoded."""

    container: str
    """Short name: "mp4", "mov", "matroska", "webm", "mpegts", "avi", "asf", …"""
    video_codec: str
    width: int
    """Stored width in pixels, before rotation."""
    height: int
    """Stored height in pixels, before rotation."""
    sample_aspect_ratio: Fraction
    """Width to height of one stored pixel; 1 if the film does not specify it."""
    rotation: int
    """Clockwise degrees that the picture is turned for display: 0, 90, 180 or 270."""
    average_frame_rate: Fraction | None
    """Frames a second, for information: never used to compute a time."""
    time_base: Fraction
    """Seconds: the unit of every presentation time (pts) of the film's pictures."""
    duration: Fraction | None
    """Seconds, if the container specifies it."""
    estimated_frames: int | None
    """An estimate, if the container allows one."""
    interlaced: bool
    transfer: str
    """Transfer characteristic: "bt709", "smpte2084" (PQ), "arib-std-b67" (HLG), …"""
    tone_mapped: bool
    """Whether the pictures are tone-mapped from HDR to SDR."""
    bit_depth: int
    """Bits a colour component."""
    sound_tracks: tuple[SoundTrack, ...]

    @property
    def display_size(self) -> tuple[int, int]:
        """Width and height in square pixels, after rotation; both even, each at least 2."""
        width = float(self.width * self.sample_aspect_ratio)
        height = float(self.height)
        if self.rotation in (90, 270):
            width, height = height, width
        return max(2, 2 * round(width / 2)), max(2, 2 * round(height / 2))
