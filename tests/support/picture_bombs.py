"""Small files that cost a decoder much time or memory."""

import io
import struct
import zlib
from functools import cache

from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
SIDE = 8192
"""The side of the largest square picture that is decoded: 67 megapixels."""


@cache
def endless_jpeg(scans: int = 10_000, side: int = 4096) -> bytes:
    """A progressive JPEG of 560 KB, one of whose scans is repeated: 12 s and more.

    A scan of a flat picture is some hundred bytes, and a skip all of its blocks.
    """
    file = _file(Image.new("RGB", (side, side), (9, 90, 10)), "JPEG", progressive=True)
    begin, end = _scan_of_higher_frequencies(file)
    return file[:end] + scans * file[begin:end] + file[end:]


def _scan_of_higher_frequencies(file: bytes) -> tuple[int, int]:
    """Return where such a scan begins, its tables included, and where it ends."""
    at, begin = 2, 2
    while True:
        marker, size = struct.unpack(">xBH", file[at : at + 4])
        following = at + 2 + size
        if marker == 0xDA:
            while file[following] != 0xFF or file[following + 1] == 0:
                following += 1
            first_coefficient = file[at + 5 + 2 * file[at + 4]]
            if first_coefficient:
                return begin, following
            begin = following
        elif marker != 0xC4:
            begin = following
        at = following


@cache
def large_png(side: int = 50_000) -> bytes:
    """A PNG of 2,500 megapixels, one bit each."""
    return _png(side, side, depth=1, colour=0, rows=side * (1 + (side + 7) // 8))


@cache
def interlaced_png(side: int = SIDE) -> bytes:
    """A PNG in seven passes."""
    passes = [
        (-(-side // 8), -(-side // 8)),
        (-(-side // 8), -(-(side - 4) // 8)),
        (-(-(side - 4) // 8), -(-side // 4)),
        (-(-side // 4), -(-(side - 2) // 4)),
        (-(-(side - 2) // 4), -(-side // 2)),
        (-(-side // 2), -(-(side - 1) // 2)),
        (-(-(side - 1) // 2), side),
    ]
    rows = sum(height * (1 + 3 * width) for height, width in passes)
    return _png(side, side, depth=8, colour=2, rows=rows, interlaced=1)


@cache
def rgba_png(side: int = SIDE) -> bytes:
    """A transparent PNG: three copies of it are 800 MB."""
    return _png(side, side, depth=8, colour=6, rows=side * (1 + 4 * side))


@cache
def webp(side: int = SIDE) -> bytes:
    """A transparent WebP in 40 bytes, for which its decoder takes a gigabyte."""
    picture = Image.new("RGBA", (side, side), (1, 2, 3, 100))
    return _file(picture, "WEBP", lossless=True, method=0)


def huge_webp(side: int = 16_000) -> bytes:
    """A WebP that declares 256 megapixels."""
    file = bytearray(webp(1))
    begin = file.index(b"VP8L") + 9
    file[begin : begin + 4] = struct.pack("<I", (side - 1) | (side - 1) << 14 | 1 << 28)
    return bytes(file)


@cache
def text_png(kind: bytes, size: int = 1 << 30) -> bytes:
    """A PNG of one pixel with a gigabyte of zeros as its text (zTXt, iTXt) or profile (iCCP)."""
    head = b"a\0\0" if kind != b"iTXt" else b"a\0\1\0\0\0"
    return _png(1, 1, depth=8, colour=2, rows=4, extra=_chunk(kind, head + _zeros(size)))


def exif_png(entries: int = 60_000, size: int = 1 << 20) -> bytes:
    """A PNG of one pixel whose EXIF names the same megabyte 60,000 times, by as many tags."""
    offset = 8 + 2 + 12 * entries + 4
    directory = b"".join(struct.pack("<HHII", tag + 1, 7, size, offset) for tag in range(entries))
    exif = b"II*\0" + struct.pack("<IH", 8, entries) + directory + bytes(4) + bytes(size)
    return _png(1, 1, depth=8, colour=2, rows=4, extra=_chunk(b"eXIf", exif))


def animated(kind: str, frames: int = 200, side: int = 1000) -> bytes:
    """A PNG or WebP of many pictures, of which the first is red."""
    first = Image.new("RGB", (side, side), (255, 0, 0))
    others = [Image.new("RGB", (side, side), (0, 0, n % 256)) for n in range(frames - 1)]
    return _file(first, kind, save_all=True, append_images=others, lossless=True, method=0)


def _file(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _png(
    width: int,
    height: int,
    *,
    depth: int,
    colour: int,
    rows: int,
    interlaced: int = 0,
    extra: bytes = b"",
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"".join(
        (PNG, _chunk(b"IHDR", header), extra, _chunk(b"IDAT", _zeros(rows)), _chunk(b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _zeros(size: int) -> bytes:
    compressor = zlib.compressobj(1)
    piece = bytes(1 << 20)
    parts = [compressor.compress(piece) for _ in range(size // len(piece))]
    return b"".join((*parts, compressor.compress(bytes(size % len(piece))), compressor.flush()))
