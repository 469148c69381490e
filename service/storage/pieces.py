"""What is put into a store, a piece at a time."""

from collections.abc import Iterator
from typing import BinaryIO

from service.storage.objects import PIECE_BYTES


def pieces(
    data: bytes | BinaryIO, size: int | None = None, piece_bytes: int = PIECE_BYTES
) -> Iterator[bytes]:
    """Yield the bytes of `data`, all pieces but the last of exactly `piece_bytes`.

    Of a file at most `size` bytes from where it stands, None for all. Raises EOFError where a file
    ends before `size`.
    """
    if isinstance(data, bytes):
        if size is not None and size != len(data):
            raise ValueError(f"{len(data)} bytes, and {size} announced")
        for start in range(0, len(data), piece_bytes):
            yield data[start : start + piece_bytes]
        return
    left = size
    while left is None or left > 0:
        wanted = piece_bytes if left is None else min(left, piece_bytes)
        piece = _read(data, wanted)
        if left is not None:
            left -= len(piece)
        if piece:
            yield piece
        if len(piece) < wanted:
            if left:
                raise EOFError(f"the file ended {left} bytes before its announced size of {size}")
            return


def _read(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, fewer only at the file's end: raw files may give fewer at any time."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
