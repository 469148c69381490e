"""The header of a fragmented MP4, completed: what is put in where, byte for byte."""

import struct
from fractions import Fraction

from film.write.header import box, boxes, complete_header
from film.write.mp4_timing import Placement

AT_ONCE = Placement(Fraction(0), 0, 0)
TKHD = box(b"tkhd", b"track")
MDIA = box(b"mdia", b"media of it")
TRAK = box(b"trak", TKHD + MDIA)
MVHD = box(b"mvhd", b"movie")
MVEX = box(b"mvex", box(b"trex", b"defaults"))
FTYP = box(b"ftyp", b"isom")


def header(*tracks: bytes) -> bytes:
    return FTYP + box(b"moov", MVHD + b"".join(tracks) + MVEX)


def with_edits(*entries: bytes) -> bytes:
    """A track with an edit list, which lies right behind its own header."""
    elst = b"\1\0\0\0" + len(entries).to_bytes(4, "big") + b"".join(entries)
    return box(b"trak", TKHD + box(b"edts", box(b"elst", elst)) + MDIA)


def edit(length: int, media_time: int) -> bytes:
    return struct.pack(">QqHH", length, media_time, 1, 0)


def test_a_box_says_its_size_and_type() -> None:
    assert box(b"free", b"abc") == b"\0\0\0\x0bfreeabc"
    assert list(boxes(box(b"free", b"abc") + box(b"mdat", b""))) == [
        (b"free", b"abc"),
        (b"mdat", b""),
    ]
    assert list(boxes(b"")) == []


def test_what_begins_at_zero_and_is_of_no_known_length_stays_as_it_is() -> None:
    given = header(TRAK, TRAK)
    assert complete_header(given, [AT_ONCE, AT_ONCE], 1000, None) == given


def test_each_track_gets_its_own_edits() -> None:
    late, primed = Placement(Fraction(3, 2), 0, 0), Placement(Fraction(0), 1024, 0)
    both = Placement(Fraction(1, 4), 312, 0)
    completed = complete_header(
        header(TRAK, TRAK, TRAK, TRAK), [late, AT_ONCE, primed, both], 8, None
    )
    assert completed == header(
        with_edits(edit(12, -1), edit(0, 0)),
        TRAK,
        with_edits(edit(0, 1024)),
        with_edits(edit(2, -1), edit(0, 312)),
    )


def test_a_known_duration_lies_in_front_of_the_tracks_defaults() -> None:
    completed = complete_header(header(TRAK), [AT_ONCE], 1000, Fraction(10, 3))
    mehd = box(b"mehd", b"\1\0\0\0" + (3333).to_bytes(8, "big"))
    mvex = box(b"mvex", mehd + box(b"trex", b"defaults"))
    assert completed == FTYP + box(b"moov", MVHD + TRAK + mvex)


def test_a_long_one_fits() -> None:
    completed = complete_header(header(TRAK), [AT_ONCE], 2**31 - 1, Fraction(7200))
    assert (7200 * (2**31 - 1)).to_bytes(8, "big") in completed
