"""A library film as a source: complete, in a store that may be unavailable for a while."""

from film.errors import FilmError, FilmLimitError
from film.process.bytes_out import StoredBytes
from service.errors import DataLossError, ServiceError
from service.film_errors import limit_error
from service.library.film_source import SourceBytes
from service.retry import with_retries
from service.storage.threads import StorageThreads


class LibraryBytes(StoredBytes):
    """The bytes; retries reads while the store is unavailable."""

    def __init__(self, source: SourceBytes, threads: StorageThreads) -> None:
        self._source = source
        self._threads = threads

    @property
    def size(self) -> int:
        """Bytes."""
        return self._source.size

    async def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the film; raises ServiceError."""
        return await with_retries(lambda: self._threads.run(self._source.read, offset, length))


class LibrarySource:
    """A film of the library; a `Source`."""

    def __init__(self, source: SourceBytes, threads: StorageThreads) -> None:
        self.bytes = LibraryBytes(source, threads)

    async def receive(self) -> None:
        """Return at once: all bytes are stored."""

    def check_idle(self, waiting_since: float | None) -> None:
        """Do nothing: there is no caller to wait for."""

    def wait_for_end(self) -> None:
        """Do nothing, for the same reason."""

    def fault(self, error: FilmError | None) -> ServiceError | None:
        """Return the error for what is wrong with the film."""
        if isinstance(error, FilmLimitError) and error.limit:
            return limit_error(error)
        return DataLossError(str(error), reason=error.reason) if error is not None else None

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
