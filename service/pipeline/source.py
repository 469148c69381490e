"""Where a film's bytes come from; and one that a caller still sends."""

import time
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Protocol

from film.errors import FilmError
from film.spool import Spool
from service.errors import IdleCallerError, InvalidFieldError, ServiceError
from service.pipeline.errors import film_fault, short_film_fault, spool_fault
from service.pipeline.serial_executor import SerialExecutor
from service.pipeline.stats import Stats
from service.pipeline.timed_file import TimedFile


class Source(Protocol):
    """A film's bytes, and what is known of their coming."""

    file: TimedFile
    """For the reader; used on its thread."""

    async def receive(self) -> None:
        """Take what is still to come; ends with the film's last byte. Raises ServiceError."""

    def check_idle(self) -> None:
        """Raise IdleCallerError when the work waits for bytes, and nothing else, for too long."""

    def wait_for_end(self) -> None:
        """Take note that nothing but the film's end is waited for."""

    def fault(self, error: FilmError | None) -> ServiceError | None:
        """Return what is wrong with the film, given what its reader found."""

    def cancel(self) -> None:
        """Make reads raise at once; any thread may call it."""

    async def close(self) -> None:
        """Release everything; `file` was closed before."""


class ArrivingSource:
    """A film that a caller sends: its bytes are spooled as they come, however slow the rest is."""

    def __init__(
        self,
        spool: Spool,
        chunks: AsyncIterable[bytes],
        stats: Stats,
        *,
        announced: int | None,
        idle_seconds: float,
        also: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        """Take `chunks`; `also` gets each of them as well, after the spool."""
        self._spool = spool
        self._chunks = chunks
        self._stats = stats
        self._announced = announced
        self._idle_seconds = idle_seconds
        self._also = also
        self._spooling = SerialExecutor("film-spool")
        self._last_chunk_at = time.monotonic()
        self._waits_for_end_since: float | None = None
        self._all_received = False
        self.file = TimedFile(spool.open())

    async def receive(self) -> None:
        """Drain the caller's bytes to disk."""
        async for chunk in self._chunks:
            self._last_chunk_at = time.monotonic()
            self._stats.bytes_received += len(chunk)
            self._check_size()
            try:
                await self._spooling.run(self._spool.write, chunk)
            except FilmError as error:
                raise spool_fault(error) from None
            if self._also is not None:
                await self._also(chunk)
                self._last_chunk_at = time.monotonic()
        if not self._stats.bytes_received:
            raise InvalidFieldError(
                "chunk", "the stream ended without one byte of a film", reason="EMPTY_FILM"
            )
        self._all_received = True
        await self._spooling.run(self._spool.finish)

    def _check_size(self) -> None:
        if self._announced is not None and self._stats.bytes_received > self._announced:
            raise InvalidFieldError(
                "settings.film_size_bytes",
                f"the film holds more than the {self._announced} bytes announced",
                reason="FILM_SIZE_MISMATCH",
            )

    def check_idle(self) -> None:
        """Raise IdleCallerError when the work waits for bytes, and nothing else, for too long."""
        waiting_since = self.file.waiting_since or self._waits_for_end_since
        if waiting_since is None or self._all_received:
            return
        idle = time.monotonic() - max(waiting_since, self._last_chunk_at)
        if idle >= self._idle_seconds:
            raise IdleCallerError(
                f"no byte of the film came for {idle:.0f} s; send its bytes, or half-close the "
                "stream where it ends",
                metadata={"bytes_received": str(self._stats.bytes_received)},
            )

    def wait_for_end(self) -> None:
        """Take note that nothing but the film's end is waited for."""
        self._waits_for_end_since = time.monotonic()

    def fault(self, error: FilmError | None) -> ServiceError | None:
        """Return what is wrong with the film: it is short, or could not be read (further)."""
        received = self._stats.bytes_received
        if self._announced is not None and self._all_received and received < self._announced:
            return short_film_fault(self._announced, self._stats)
        return film_fault(error, self._stats) if error is not None else None

    def cancel(self) -> None:
        """Make reads raise at once."""
        self._spool.cancel()

    async def close(self) -> None:
        """Give the spool's bytes back."""
        await self._spooling.end(self._spool.close)
