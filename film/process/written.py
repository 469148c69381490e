"""The output of a film process: a stream's bytes, or whole segments."""

from __future__ import annotations

from dataclasses import dataclass

from film.process.answers import Answer
from film.process.channel import ChannelError
from film.segments import Segment

_MAX_SEGMENTS = 4096
_LARGEST = 1 << 63


@dataclass(frozen=True, slots=True)
class Written:
    """The output for a batch, or for the film's end."""

    data: bytes = b""
    """A stream's next bytes."""
    segments: tuple[Segment, ...] = ()
    """Segments completed now."""
    init: bytes | None = None
    """With the film's first segment: the header before it."""
    warnings: tuple[str, ...] = ()
    """At a stream's end: what was repaired or left out, one sentence each."""


def written_segments(answer: Answer, payload: memoryview, warnings: tuple[str, ...]) -> Written:
    """Return the segments that an answer holds; raises ChannelError."""
    init_size = answer.integer("init_size", 0, len(payload))
    at = init_size
    segments = []
    for told in answer.objects("segments", _MAX_SEGMENTS):
        size = told.integer("size", 0, len(payload) - at)
        segments.append(
            Segment(
                number=told.integer("number", 1, _LARGEST - 1),
                data=bytes(payload[at : at + size]),
                frames=told.integer("frames", 0, _LARGEST - 1),
                first_pts=told.integer("first_pts", -_LARGEST, _LARGEST - 1),
                resume=told.resume_point("resume"),
            )
        )
        at += size
    if at != len(payload):
        raise ChannelError("an answer holds more bytes than it tells of")
    init = bytes(payload[:init_size]) if init_size else None
    return Written(segments=tuple(segments), init=init, warnings=warnings)
