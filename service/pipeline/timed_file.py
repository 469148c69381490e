"""A film file that knows how long its reader has been waiting for bytes."""

import io
import time


class TimedFile(io.RawIOBase):
    """Passes reads on and measures them, so that waiting for the caller is told from work."""

    def __init__(self, file: io.RawIOBase) -> None:
        super().__init__()
        self._file = file
        self.waiting_since: float | None = None
        """When the read under way began (`time.monotonic`); None while nobody reads."""
        self.waited = 0.0
        """Seconds spent in reads altogether."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; waits for bytes that have not arrived yet."""
        began = self.waiting_since = time.monotonic()
        try:
            return self._file.read(size) or b""
        finally:
            self.waiting_since = None
            self.waited += time.monotonic() - began

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset; waits for the film's end where it is counted from there."""
        began = self.waiting_since = time.monotonic()
        try:
            return self._file.seek(offset, whence)
        finally:
            self.waiting_since = None
            self.waited += time.monotonic() - began

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file beneath as well; safe to call twice."""
        self._file.close()
        super().close()
