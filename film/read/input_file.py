"""A film's bytes as FFmpeg sees them: without a name or an end, seekable only where needed.

FFmpeg would look at the end of a seekable file before it shows a picture: for an index in AVI, for
tags in Matroska, for the last times in a transport stream. A film that is still arriving has no
end yet, so those containers are shown as a stream. MP4 and MOV must be seekable, for an index at
the end or sound and picture stored apart; they stay at the front when the demuxer is told to
ignore further indices.
"""

import io
from typing import BinaryIO

from film.errors import NoPictureError, NotAFilmError

_HEAD_BYTES = 512

_MP4_BOXES = frozenset(
    (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx")
)
_PICTURE_BRANDS = frozenset((b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"jpeg"))

_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
)
_SOUNDS = (
    (b"ID3", "an MP3 file"),
    (b"fLaC", "a FLAC file"),
    (b"\xff\xfb", "an MP3 file"),
    (b"\xff\xf3", "an MP3 file"),
    (b"\xff\xf1", "an AAC file"),
    (b"\xff\xf9", "an AAC file"),
    (b"#!AMR", "an AMR file"),
    (b"MThd", "a MIDI file"),
)
_OTHERS = (
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a list of files"),
    (b"<?xml", "XML text"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
)


class FilmSource:
    """What FFmpeg reads instead of the file.

    An error of the file (cancelled, disk) is kept in `failure` and shown to FFmpeg as the end: an
    exception must not pass through its C code more than once.
    """

    def __init__(self, file: BinaryIO | io.RawIOBase) -> None:
        self._file = file
        self.failure: BaseException | None = None
        self._seekable = False

    def look(self) -> bytes:
        """Wait for the film's first bytes (up to 512), and return them; the position stays 0.

        Raises:
            FilmCancelledError: reading was cancelled.
        """
        head = b""
        self._file.seek(0)
        while len(head) < _HEAD_BYTES:
            part = self._file.read(_HEAD_BYTES - len(head))
            if not part:
                break
            head += part
        self._file.seek(0)
        self._seekable = is_mp4(head)
        return head

    def check(self) -> None:
        """Raise what went wrong with the file, or FilmCancelledError if reading was cancelled."""
        if self.failure is not None:
            raise self.failure
        self._file.read(0)

    def read(self, size: int) -> bytes:
        """Read for FFmpeg; b"" at the end and after a failure."""
        if self.failure is not None:
            return b""
        try:
            return self._file.read(size) or b""
        except BaseException as error:  # Kept, and raised again by `check`.
            self.failure = error
            return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek for FFmpeg; -1 instead of an end that may not have arrived."""
        if whence not in (io.SEEK_SET, io.SEEK_CUR):
            return -1
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            # A damaged index sends FFmpeg to places that cannot be.
            return -1

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Return whether FFmpeg may seek."""
        return self._seekable


def is_mp4(head: bytes) -> bool:
    """Say whether a file that begins with `head` is of the MP4 and QuickTime family."""
    return head[4:8] in _MP4_BOXES


def refuse_others(head: bytes) -> None:
    """Refuse what is certainly no film by its first bytes, and say what it is.

    Raises:
        NoPictureError: a picture or sound.
        NotAFilmError: nothing, text, an archive.
    """
    if not head:
        raise NotAFilmError("the film is empty: no byte of it arrived")
    if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS:
        raise NoPictureError("this is a still picture (HEIF or AVIF), not a film")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        raise NoPictureError("this is a WebP picture, not a film")
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        raise NoPictureError("this is a WAV file: it holds sound, but no moving picture")
    for magic, name in _PICTURES:
        if head.startswith(magic):
            raise NoPictureError(f"this is {name}, not a film")
    for magic, name in _SOUNDS:
        if head.startswith(magic):
            raise NoPictureError(f"this is {name}: it holds sound, but no moving picture")
    for magic, name in _OTHERS:
        if head.startswith(magic):
            raise NotAFilmError(f"this is {name}, not a film")
