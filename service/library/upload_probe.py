"""Checks whether stored bytes are a film, and reads its facts."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable

from film.errors import FilmError, FilmLimitError
from film.facts import FilmFacts
from film.first_bytes import refuse_others
from film.output import OutputSettings
from film.process.bytes_out import StoredBytes
from film.process.film_process import FilmProcesses
from service.errors import InvalidFieldError, ServiceError
from service.film_errors import limit_error, translated_process_errors
from service.library.film_source import SourceBytes
from service.library.upload_errors import UploadCancelledError

HEAD_BYTES = 512
"""Bytes that `check_head` needs, if the film has that many."""

_LOOK_SECONDS = 0.2

Probe = Callable[[SourceBytes, threading.Event], FilmFacts]
"""Returns a film's facts once its first picture is decoded. Blocks; not for the event loop.

Raises InvalidFieldError with the reason if it is not a film, UploadCancelledError once the event is
set, and the errors of reading the bytes.
"""


def check_head(head: bytes) -> None:
    """Raise InvalidFieldError if the first bytes cannot be a film's."""
    try:
        refuse_others(head)
    except FilmError as error:
        raise film_refused(error) from None


class FilmProbe:
    """A `Probe` that uses a film process."""

    def __init__(self, processes: FilmProcesses) -> None:
        """Bind to the running event loop."""
        self._processes = processes
        self._loop = asyncio.get_running_loop()

    def __call__(self, source: SourceBytes, cancelled: threading.Event) -> FilmFacts:
        """Return a film's facts."""
        looking = asyncio.run_coroutine_threadsafe(self._look(source), self._loop)
        while True:
            try:
                return looking.result(_LOOK_SECONDS)
            except concurrent.futures.TimeoutError:
                if cancelled.is_set():
                    looking.cancel()
                    raise UploadCancelledError("the upload was cancelled") from None

    async def _look(self, source: SourceBytes) -> FilmFacts:
        with translated_process_errors(film_refused):
            async with self._processes.film(_ProbedBytes(source)) as film:
                return await film.open(OutputSettings())


class _ProbedBytes(StoredBytes):
    """The bytes to probe; read on other threads than those that wait for the result."""

    def __init__(self, source: SourceBytes) -> None:
        self._source = source

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._source.size

    async def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the film; raises ServiceError."""
        return await asyncio.to_thread(self._source.read, offset, length)


def no_probe(source: SourceBytes, cancelled: threading.Event) -> FilmFacts:
    """Raise: for processes that only resume or clean up uploads."""
    raise RuntimeError("there is nothing here to look at films with")


def film_refused(error: FilmError) -> ServiceError:
    """Return the caller's error for bytes that are not a film."""
    if isinstance(error, FilmLimitError) and error.limit:
        return limit_error(error)
    return InvalidFieldError("chunk", str(error), reason=error.reason)
