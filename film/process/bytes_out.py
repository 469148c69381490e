"""Serves the requests of a film process: film bytes and tone mapping tables."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from film.process.answers import Answer
from film.process.channel import ChannelError, ServiceChannel
from film.process.cubes import ColourCubes
from film.process.protocol import BLOCK_BYTES, Kind

_LARGEST = (1 << 63) - 1
_LARGEST_CODE = 255
"""H.273 numbers transfer curves and primaries in 8 bits."""


class GrowingBytes(ABC):
    """A film in a local file that may still grow."""

    @property
    @abstractmethod
    def descriptor(self) -> int:
        """A read-only descriptor of the file; its user must not close it."""

    @abstractmethod
    async def wait(self, position: int) -> tuple[int, bool]:
        """Wait for a byte at `position` or the end; return the size so far, and if it is final."""


class StoredBytes(ABC):
    """A film in storage that only the service can reach."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes."""

    @abstractmethod
    async def read(self, offset: int, length: int) -> bytes:
        """Return exactly the bytes asked for, which lie within the film."""


FilmBytes = GrowingBytes | StoredBytes


class BytesOut:
    """Answers the requests of one process."""

    def __init__(
        self, channel: ServiceChannel, source: FilmBytes | None, cubes: ColourCubes
    ) -> None:
        self._channel = channel
        self._source = source
        self._cubes = cubes
        self.waiting_since: float | None = None
        """When the process began to wait for an answer (`time.monotonic`); None if it does not."""

    async def serve(self) -> None:
        """Answer until the process has ended; raises what the source raises, and ChannelError."""
        while True:
            request = await self._channel.receive()
            self.waiting_since = time.monotonic()
            await self._answer(request.kind, Answer.of(request.data))
            self.waiting_since = None

    async def _answer(self, kind: int, asked: Answer) -> None:
        source = self._source
        if kind == Kind.WAIT_FOR_BYTES and isinstance(source, GrowingBytes):
            size, finished = await source.wait(asked.integer("position", 0, _LARGEST))
            await self._channel.send(Kind.DONE, {"size": size, "finished": finished})
        elif kind == Kind.READ_BLOCK and isinstance(source, StoredBytes):
            offset = asked.integer("offset", 0, source.size)
            length = asked.integer("length", 0, min(BLOCK_BYTES, source.size - offset))
            await self._channel.send(Kind.DONE, {}, await source.read(offset, length))
        elif kind == Kind.COLOUR_CUBE:
            transfer = asked.integer("transfer", 0, _LARGEST_CODE)
            primaries = asked.integer("primaries", 0, _LARGEST_CODE)
            await self._channel.send(Kind.DONE, {}, await self._cubes.get(transfer, primaries))
        else:
            raise ChannelError(f"a film's process may not ask for {kind}")
