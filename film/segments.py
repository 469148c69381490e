"""Segments, the pieces in which a film is reconstructed, and how to resume after one.

Segment boundaries depend only on the pictures' times, so a resumed job makes the same segments.
Each segment ends with a `ResumePoint`: everything needed to resume there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Self, cast

FIRST_SECONDS = Fraction(2)
"""The first segment is short, so that playback can start early."""
LATER_SECONDS = Fraction(10)

_FORMAT = 1
"""Version of the JSON."""


class ResumeError(ValueError):
    """The film cannot be resumed; it must be processed again from its beginning."""


class SegmentPlan:
    """Decides where segments begin.

    At the first picture, then at the first one at least 2 s after it, and from then on at the first
    one at least 10 s after the start of the last segment.
    """

    def __init__(self, time_base: Fraction, finished: int = 0) -> None:
        """Set up for a film's time base; `finished` segments precede the first call of `begins`."""
        self.begun = finished
        """Segments that have begun so far, including those finished before."""
        self._time_base = time_base
        self._first: int | None = None

    def begins(self, pts: int) -> bool:
        """Return whether one begins with the picture at `pts`; call it for each, in order."""
        if self._first is not None:
            length = FIRST_SECONDS if self.begun == 1 else LATER_SECONDS
            if (pts - self._first) * self._time_base < length:
                return False
        self._first = pts
        self.begun += 1
        return True


@dataclass(frozen=True, slots=True)
class ReadingPoint:
    """The reader's state for resuming with the first picture of a segment."""

    finished: int
    """Segments before it."""
    pts: int
    """The picture's time in the film's time base."""
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    """The reader's own state; plain JSON."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The state of a film's processing after a finished segment."""

    segments: int
    """Finished segments; the next one's number is one more."""
    frames: int
    """Pictures in them."""
    position: Fraction
    """Seconds of the film in them, from its first picture."""
    warnings: tuple[str, ...]
    """What was repaired or left out in them, one sentence each."""
    reading: ReadingPoint | None
    """Where the reader resumes; None if the film has ended and nothing is left to do."""
    writing: dict[str, Any] = field(repr=False)
    """The writer's own state; plain JSON."""

    @property
    def ended(self) -> bool:
        """Whether the last segment is finished."""
        return self.reading is None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; about a kilobyte, however long the film."""
        reading = self.reading
        return {
            "format": _FORMAT,
            "segments": self.segments,
            "frames": self.frames,
            "position": str(self.position),
            "warnings": list(self.warnings),
            "reading": None
            if reading is None
            else {"finished": reading.finished, "pts": reading.pts, "state": reading.state},
            "writing": self.writing,
        }

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what `to_json` returned.

        Raises:
            ResumeError: it is something else, or of another version.
        """
        try:
            fields = cast("dict[str, Any]", data)
            if fields["format"] != _FORMAT:
                raise ValueError
            reading = fields["reading"]
            return cls(
                segments=int(fields["segments"]),
                frames=int(fields["frames"]),
                position=Fraction(fields["position"]),
                warnings=tuple(map(str, fields["warnings"])),
                reading=None if reading is None else ReadingPoint(**reading),
                writing=dict(fields["writing"]),
            )
        except (TypeError, KeyError, ValueError, AttributeError):
            raise ResumeError("this is not a resume point") from None


@dataclass(frozen=True, slots=True)
class Segment:
    """A whole segment of the output: fragments of an MP4, to be appended to its header."""

    number: int
    """The segment's number, from 1."""
    data: bytes = field(repr=False)
    frames: int
    """Pictures in it."""
    first_pts: int
    """Its first picture's time in the film's time base."""
    resume: ResumePoint
    """How to resume after it."""
