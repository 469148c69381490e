"""Completes the header of a fragmented MP4 before it is sent.

FFmpeg can write the header of a fragmented MP4 either at once, but without edit lists, or after
the first packet of every track, so that one late sound track delays the whole film. Here it is
written at once, and what is missing is added: each track's edit list, which gives the track's start
and cuts the priming of its sound, and the film's duration if it is known.
"""

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction

from film.write.mp4_timing import Placement

_HEADER = 8
"""Bytes of a box's size and type."""
_VERSION_1 = 1 << 24
_AT_NORMAL_SPEED = 1 << 16


def complete_header(
    header: bytes,
    placements: Sequence[Placement],
    movie_timescale: int,
    duration: Fraction | None,
) -> bytes:
    """Return `header` (`ftyp` and `moov`) with edit lists and duration.

    Args:
        header: as FFmpeg writes it with `empty_moov`.
        placements: the tracks', in order.
        movie_timescale: the header's ticks a second.
        duration: the film's, in seconds.
    """
    parts = []
    for kind, payload in boxes(header):
        if kind == b"moov":
            payload = _complete_moov(payload, placements, movie_timescale, duration)
        parts.append(box(kind, payload))
    return b"".join(parts)


def _complete_moov(
    moov: bytes,
    placements: Sequence[Placement],
    movie_timescale: int,
    duration: Fraction | None,
) -> bytes:
    parts = []
    track = 0
    for kind, payload in boxes(moov):
        if kind == b"trak":
            payload = _with_edits(payload, placements[track], movie_timescale)
            track += 1
        elif kind == b"mvex" and duration is not None:
            ticks = round(duration * movie_timescale)
            payload = box(b"mehd", struct.pack(">IQ", _VERSION_1, ticks)) + payload
        parts.append(box(kind, payload))
    return b"".join(parts)


def _with_edits(trak: bytes, placement: Placement, movie_timescale: int) -> bytes:
    entries = []
    if placement.delay:
        entries.append((int(placement.delay * movie_timescale), -1))
    if placement.delay or placement.trim:
        # In a fragmented file an edit of length 0 lasts to the end of the track.
        entries.append((0, placement.trim))
    if not entries:
        return trak
    elst = struct.pack(">II", _VERSION_1, len(entries))
    for length, media_time in entries:
        elst += struct.pack(">QqI", length, media_time, _AT_NORMAL_SPEED)
    edits = box(b"edts", box(b"elst", elst))
    return b"".join(
        box(kind, payload) + (edits if kind == b"tkhd" else b"") for kind, payload in boxes(trak)
    )


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the payload of each box."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + _HEADER : at + size]
        at += size


def box(kind: bytes, payload: bytes) -> bytes:
    """Return a box."""
    return struct.pack(">I4s", _HEADER + len(payload), kind) + payload
