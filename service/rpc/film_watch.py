"""Reads from a film that stop when the film is deleted on any replica."""

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TypeVar

from service.library.films import Film, Films
from service.library.verified_reads import DamagedError
from service.storage.threads import StorageThreads

_LOOK_SECONDS = 1.0
"""How often a stream checks whether its film was deleted."""

Item = TypeVar("Item")


class FilmWatch:
    """Checks that films still exist while their data is read."""

    def __init__(self, films: Films, threads: StorageThreads) -> None:
        self._films = films
        self._threads = threads

    async def require(self, film: Film) -> None:
        """Raise NotFoundError unless the film still exists."""
        await self._threads.run(self._films.require, film.id, film.uid)

    async def watched(self, film: Film, items: Iterator[Item]) -> AsyncGenerator[Item, None]:
        """Yield items read from a film, pulled on the storage threads.

        Checks that the film exists right before the first item, and then once a second, however
        slowly the items are consumed. Close it (`aclosing`) if not exhausted. Raises NotFoundError
        or DamagedError.
        """
        looked: float | None = None
        try:
            async with aclosing(self._threads.iterate(items)) as stream:
                async for item in stream:
                    if looked is None or time.monotonic() - looked >= _LOOK_SECONDS:
                        await self.require(film)
                        looked = time.monotonic()
                    yield item
        except DamagedError:
            # Objects may be missing because the film was deleted.
            await self.require(film)
            raise
