"""A film's bytes as FFmpeg sees them: without a name or an end, seekable only where needed.

FFmpeg would read the end of a seekable file before it returns a picture: for an index in AVI, for
tags in Matroska, for the last times in a transport stream. A film that is still arriving has no
end yet, so those containers are presented as a stream. MP4 and MOV must be seekable, for an index
at the end or sound and picture stored apart; they are read from the front if the demuxer is told
to ignore further indices.
"""

import io
from typing import BinaryIO

from film.first_bytes import is_mp4

_HEAD_BYTES = 512


class FilmSource:
    """What FFmpeg reads instead of the file.

    An error of the file (the disk's, the service gone) is kept in `failure` and reported to FFmpeg
    as the end: an exception must not pass through its C code more than once.
    """

    def __init__(self, file: BinaryIO | io.RawIOBase) -> None:
        self._file = file
        self.failure: BaseException | None = None
        self._seekable = False

    def look(self) -> bytes:
        """Wait for the film's first bytes (up to 512), and return them; the position stays 0."""
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
        """Raise the file's error, if there was one."""
        if self.failure is not None:
            raise self.failure

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
            # A damaged index sends FFmpeg to impossible positions.
            return -1

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Return whether FFmpeg may seek."""
        return self._seekable
