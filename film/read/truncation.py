"""Detects truncated films by their container's outermost structure.

FFmpeg reads as far as it can and does not report that a film is truncated. Containers with lengths
do: MP4 in its boxes, Matroska in its elements, AVI in its chunks, ASF in its objects. Only headers
are read here, never a payload.
"""

import io
import struct
import sys
from typing import BinaryIO

from film.first_bytes import is_mp4

_MP4_OUTER = frozenset(
    b"ftyp moov mdat moof mfra sidx ssix styp free skip wide uuid meta pnot emsg prft udta".split()
)
_EBML = b"\x1a\x45\xdf\xa3"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")

# Matroska elements that contain others and whose end may be left open.
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675


def find_break(file: BinaryIO | io.RawIOBase) -> str | None:
    """Describe where a film that has arrived completely is truncated.

    Args:
        file: the film, seekable; its position changes.

    Returns:
        A description for the caller; None for a whole film, or if the container does not say.
    """
    head = _at(file, 0, 64)
    for belongs, walk in (
        (is_mp4(head), _find_break_mp4),
        (head.startswith(_EBML), _find_break_matroska),
        (head.startswith(b"RIFF"), _find_break_riff),
        (head.startswith(_ASF), _find_break_asf),
    ):
        if belongs:
            # Only now: the end of a film is not known until all of it has arrived.
            return walk(file, file.seek(0, io.SEEK_END))
    return None


def has_mp4_index(file: BinaryIO | io.RawIOBase) -> bool:
    """Return whether an MP4 that has arrived completely has an index (moov) at its top level."""
    size = file.seek(0, io.SEEK_END)
    position = 0
    while position + 8 <= size:
        kind, length = _mp4_box(file, position, size)
        if kind == b"moov":
            return True
        if kind not in _MP4_OUTER or length < 8:
            return False
        position += length
    return False


def mp4_length_is_open(file: BinaryIO | io.RawIOBase) -> bool:
    """Return whether an MP4 is fragmented and its header does not give its duration.

    FFmpeg then takes the fragments it has seen for the whole film. Everything up to the end of the
    moov box must have arrived. The file's position is kept.
    """
    position = file.tell()
    try:
        moov = _mp4_find(file, b"moov", 0, sys.maxsize)
        if moov is None or (mvex := _mp4_find(file, b"mvex", *moov)) is None:
            return False
        if _mp4_find(file, b"mehd", *mvex) is not None:
            return False
        mvhd = _mp4_find(file, b"mvhd", *moov)
        if mvhd is None:
            return True
        # ISO/IEC 14496-12, 8.2.2: version 1 has 64-bit times.
        at, count = (24, 8) if _at(file, mvhd[0], 1) == b"\x01" else (16, 4)
        return int.from_bytes(_at(file, mvhd[0] + at, count), "big") in (0, 256**count - 1)
    finally:
        file.seek(position)


def _mp4_find(
    file: BinaryIO | io.RawIOBase, kind: bytes, position: int, end: int
) -> tuple[int, int] | None:
    """Find the first box of a type between two positions; return its payload's start and end."""
    while position + 8 <= end:
        found, length = _mp4_box(file, position, end)
        if length < 8:
            return None
        if found == kind:
            header = 16 if _at(file, position, 4) == b"\0\0\0\1" else 8
            return position + header, position + length
        if found == b"moof":
            return None
        position += length
    return None


def _at(file: BinaryIO | io.RawIOBase, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count) or b""


def _missing(what: str, needed: int, size: int) -> str:
    return f"{what} reaches to byte {needed}, but the film ends at byte {size}"


def _mp4_box(file: BinaryIO | io.RawIOBase, position: int, size: int) -> tuple[bytes, int]:
    header = _at(file, position, 16)
    length, kind = int.from_bytes(header[:4], "big"), header[4:8]
    if length == 1 and len(header) == 16:
        length = int.from_bytes(header[8:16], "big")
    elif length == 0:
        length = size - position
    return kind, length


def _find_break_mp4(file: BinaryIO | io.RawIOBase, size: int) -> str | None:
    position = 0
    while position < size:
        kind, length = _mp4_box(file, position, size)
        if kind not in _MP4_OUTER or length < 8:
            return None
        if position + length > size:
            return _missing(f"its {kind.decode()} box", position + length, size)
        position += length
    return None


def _find_break_riff(file: BinaryIO | io.RawIOBase, size: int) -> str | None:
    position = 0
    while position + 8 <= size:
        kind, length = struct.unpack("<4sI", _at(file, position, 8))
        # A recording that was never closed has 0 or -1: its length is unknown.
        if kind != b"RIFF" or length in (0, 0xFFFFFFFF):
            return None
        if position + 8 + length > size:
            return _missing("its RIFF chunk", position + 8 + length, size)
        position += 8 + length + length % 2
    return None


def _find_break_asf(file: BinaryIO | io.RawIOBase, size: int) -> str | None:
    position = 0
    while position + 24 <= size:
        length = int.from_bytes(_at(file, position + 16, 8), "little")
        if length < 24:
            return None
        if position + length > size:
            return _missing("one of its ASF objects", position + length, size)
        position += length
    return None


def _find_break_matroska(file: BinaryIO | io.RawIOBase, size: int) -> str | None:
    """Walk the elements; segments, and clusters of unknown length, are descended into."""
    position = 0
    while position < size:
        header = _at(file, position, 12)
        element, id_bytes = _vint(header, keep_marker=True)
        length, length_bytes = _vint(header[id_bytes:], keep_marker=False)
        if not id_bytes or not length_bytes:
            # Either the film ends within a header, or this is no element (padding).
            ends = position + len(header) == size and 0 < len(header) < 12 and header[0] != 0
            return _missing("an element", size + 1, size) if ends else None
        position += id_bytes + length_bytes
        unknown = length == (1 << 7 * length_bytes) - 1
        if not unknown and position + length > size:
            name = {_SEGMENT: "its segment", _CLUSTER: "a cluster"}.get(element, "an element")
            return _missing(name, position + length, size)
        if element == _SEGMENT or unknown:
            continue
        position += length
    return None


def _vint(data: bytes, *, keep_marker: bool) -> tuple[int, int]:
    """Read an EBML number: its value and its size in bytes, 0 if it is truncated or invalid."""
    if not data or data[0] == 0:
        return 0, 0
    count = 9 - data[0].bit_length()
    if len(data) < count:
        return 0, 0
    value = int.from_bytes(data[:count], "big")
    return (value if keep_marker else value & ((1 << 7 * count) - 1)), count
