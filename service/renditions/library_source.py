"""A film of the library as a source: all there, in a store that may be away for a while."""

import io
import threading
from typing import Protocol

from film.errors import FilmCancelledError, FilmError
from service.errors import DataLossError, ServiceError, UnavailableError
from service.pipeline.timed_file import TimedFile
from service.retry import RETRY_SECONDS


class StoredFile(Protocol):
    """What the library gives to read a film's bytes from."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Return up to `size` bytes; b"" at the end."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move."""

    def tell(self) -> int:
        """Return the position."""

    def close(self) -> None:
        """Close it; safe to call twice."""

    def cancel(self) -> None:
        """Make reads raise FilmCancelledError; any thread may call it."""


class LibrarySource:
    """A film of the library; a `Source`."""

    def __init__(self, file: StoredFile) -> None:
        self._patient = _PatientFile(file)
        self.file = TimedFile(self._patient)

    async def receive(self) -> None:
        """Return at once: nothing is still to come."""

    def check_idle(self) -> None:
        """Do nothing: there is no caller to wait for."""

    def wait_for_end(self) -> None:
        """Do nothing, likewise."""

    def fault(self, error: FilmError | None) -> ServiceError | None:
        """Return what is wrong: with the store, if that failed, and with the film otherwise."""
        if self._patient.failure is not None:
            return self._patient.failure
        if error is None or isinstance(error, FilmCancelledError):
            return None
        return DataLossError(str(error), reason=error.reason)

    def cancel(self) -> None:
        """Make reads raise at once."""
        self._patient.cancel()

    async def close(self) -> None:
        """Do nothing: the reader's thread has closed the file."""


class _PatientFile(io.RawIOBase):
    """Reads again, a bounded number of times, while the store cannot be reached."""

    def __init__(self, file: StoredFile) -> None:
        super().__init__()
        self._file = file
        self._cancelled = threading.Event()
        self.failure: ServiceError | None = None
        """What the store failed with in the end."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes."""
        position = self._file.tell()
        try:
            for pause in RETRY_SECONDS:
                try:
                    return self._file.read(size) or b""
                except UnavailableError:
                    if self._cancelled.wait(pause):
                        raise FilmCancelledError("reading the film was cancelled") from None
                    self._file.seek(position)
            return self._file.read(size) or b""
        except ServiceError as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._file.tell()

    def cancel(self) -> None:
        """Make reads raise FilmCancelledError, and end a pause."""
        self._cancelled.set()
        self._file.cancel()

    def close(self) -> None:
        """Close the file beneath as well."""
        self._file.close()
        super().close()
