"""Detects file types by their first bytes."""

from film.errors import NoPictureError, NotAFilmError

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


def is_mp4(head: bytes) -> bool:
    """Return whether a file that begins with `head` is in the MP4 and QuickTime family."""
    return head[4:8] in _MP4_BOXES


def refuse_others(head: bytes) -> None:
    """Raise an error with the file's type if its first bytes are not a film's.

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
