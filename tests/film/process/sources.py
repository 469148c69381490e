"""Films' bytes for films' processes."""

import asyncio
from pathlib import Path

from film.process.bytes_out import GrowingBytes, StoredBytes


class StoredFilm(StoredBytes):
    """A film that the process asks for block by block."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self.blocks: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        return len(self._data)

    async def read(self, offset: int, length: int) -> bytes:
        self.blocks.append((offset, length))
        return self._data[offset : offset + length]


class GrowingFilm(GrowingBytes):
    """A film that the process has a descriptor of, and that comes bit by bit."""

    def __init__(self, path: Path, arrives: int | None = None) -> None:
        """All of it is there, or its first `arrives` bytes until `arrive` is called."""
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self._arrived = self._size if arrives is None else arrives
        self._changed = asyncio.Condition()
        self.waited = asyncio.Event()
        """Set once the process waits for bytes that are not there."""

    @property
    def descriptor(self) -> int:
        return self._file.fileno()

    async def arrive(self, size: int | None = None) -> None:
        async with self._changed:
            self._arrived = self._size if size is None else size
            self._changed.notify_all()

    async def wait(self, position: int) -> tuple[int, bool]:
        async with self._changed:
            while position >= self._arrived < self._size:
                self.waited.set()
                await self._changed.wait()
            return self._arrived, self._arrived == self._size
