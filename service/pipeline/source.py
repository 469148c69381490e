"""Sources of a film's bytes; and the source of a film that a caller streams."""

import asyncio
import os
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Protocol

from film.errors import FilmError
from film.process.bytes_out import FilmBytes, GrowingBytes
from film.spool import Spool
from service.aio import run_to_completion
from service.errors import IdleCallerError, InvalidFieldError, ServiceError
from service.pipeline.errors import film_error, short_film_error, spool_error
from service.pipeline.stats import Stats


class Source(Protocol):
    """A film's bytes, which may still be arriving."""

    @property
    def bytes(self) -> FilmBytes:
        """What the film's process reads."""

    async def receive(self) -> None:
        """Receive all remaining bytes. Raises ServiceError."""

    def check_idle(self, waiting_since: float | None) -> None:
        """Raise IdleCallerError if only the caller's bytes are awaited for too long.

        `waiting_since`: since when the film process waits (`time.monotonic`); None: it does not.
        """

    def wait_for_end(self) -> None:
        """Note that nothing but the film's end is waited for."""

    def fault(self, error: FilmError | None) -> ServiceError | None:
        """Return the caller's error, given the film process's error."""

    def close(self) -> None:
        """Release everything."""


class SpooledBytes(GrowingBytes):
    """A spool as a film's process reads it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._descriptor = spool.open_descriptor()
        self._changed = asyncio.Condition()

    @property
    def descriptor(self) -> int:
        """A read-only descriptor of the spool."""
        return self._descriptor

    async def wait(self, position: int) -> tuple[int, bool]:
        """Wait until a byte lies at `position`, or all have arrived."""
        spool = self._spool
        async with self._changed:
            await self._changed.wait_for(lambda: position < spool.size or spool.finished)
            return spool.size, spool.finished

    async def write(self, data: bytes) -> None:
        """Append bytes to the spool, and wake waiters; raises as `Spool.write`."""
        # A running write cannot be stopped, and the spool must not be closed meanwhile.
        await run_to_completion(asyncio.to_thread(self._spool.write, data))
        await self._tell()

    async def finish(self) -> None:
        """Mark the film as complete."""
        self._spool.finish()
        await self._tell()

    def close(self) -> None:
        """Give the spool's bytes back."""
        os.close(self._descriptor)
        self._spool.close()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class ArrivingSource:
    """A film that a caller streams; its bytes are spooled at once, without backpressure."""

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
        """Take `chunks`; `also` is called with each of them after the spool."""
        self.bytes = SpooledBytes(spool)
        self._chunks = chunks
        self._stats = stats
        self._announced = announced
        self._idle_seconds = idle_seconds
        self._also = also
        self._last_chunk_at = time.monotonic()
        self._waits_for_end_since: float | None = None
        self._all_received = False

    async def receive(self) -> None:
        """Drain the caller's bytes to disk."""
        async for chunk in self._chunks:
            self._last_chunk_at = time.monotonic()
            self._stats.bytes_received += len(chunk)
            self._check_size()
            try:
                await self.bytes.write(chunk)
            except FilmError as error:
                raise spool_error(error) from None
            if self._also is not None:
                await self._also(chunk)
                self._last_chunk_at = time.monotonic()
        if not self._stats.bytes_received:
            raise InvalidFieldError(
                "chunk", "the stream ended without one byte of a film", reason="EMPTY_FILM"
            )
        self._all_received = True
        await self.bytes.finish()

    def _check_size(self) -> None:
        if self._announced is not None and self._stats.bytes_received > self._announced:
            raise InvalidFieldError(
                "settings.film_size_bytes",
                f"the film holds more than the {self._announced} bytes announced",
                reason="FILM_SIZE_MISMATCH",
            )

    def check_idle(self, waiting_since: float | None) -> None:
        """Raise IdleCallerError when the work waits for bytes, and nothing else, for too long."""
        waiting_since = waiting_since or self._waits_for_end_since
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
        """Note that nothing but the film's end is waited for."""
        self._waits_for_end_since = time.monotonic()

    def fault(self, error: FilmError | None) -> ServiceError | None:
        """Return what is wrong with the film: it is short, or could not be read (further)."""
        received = self._stats.bytes_received
        if self._announced is not None and self._all_received and received < self._announced:
            return short_film_error(self._announced, self._stats)
        return film_error(error, self._stats) if error is not None else None

    def close(self) -> None:
        """Give the spool's bytes back."""
        self.bytes.close()
