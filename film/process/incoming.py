"""File objects through which a film process reads the film's bytes from the service.

The bytes are either in a file that may still grow, of which the process has a read-only descriptor,
or in storage that only the service can reach.
"""

from __future__ import annotations

import io
import os
import time
from abc import abstractmethod
from collections import OrderedDict

from film.process.channel import Bounds, ChildChannel
from film.process.protocol import BLOCK_BYTES, Kind

_BLOCKS_KEPT = 4
"""Sound and picture may be far apart in a film and are then read in turn, besides its index."""
_BLOCK_BOUNDS = Bounds(payload_bytes=BLOCK_BYTES)
_THE_END = 2**63 - 1


class IncomingFile(io.RawIOBase):
    """A binary file of bytes requested from the service; waits for bytes that have not arrived."""

    def __init__(self, channel: ChildChannel) -> None:
        super().__init__()
        self._channel = channel
        self._position = 0
        self.waited = 0.0
        """Total seconds spent waiting for the service."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes, fewer if fewer are available; none only at the film's end."""
        if size < 0:
            return self.readall()
        data = self._read_at(self._position, size) if size else b""
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Return all bytes from here to the end; for small films."""
        parts = []
        while part := self.read(BLOCK_BYTES):
            parts.append(part)
        return b"".join(parts)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Seek; relative to the end, it waits until all bytes have arrived."""
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self._end()
        elif whence != io.SEEK_SET:
            raise ValueError(f"unknown whence {whence}")
        if offset < 0:
            raise ValueError(f"negative position {offset}")
        self._position = offset
        return offset

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    @abstractmethod
    def _read_at(self, position: int, size: int) -> bytes:
        """Return up to `size` bytes from `position`; none only at the film's end."""

    @abstractmethod
    def _end(self) -> int:
        """Wait until the film's size is known, and return it."""

    def _ask(
        self, kind: Kind, fields: dict[str, int], bounds: Bounds
    ) -> tuple[dict[str, int], bytes]:
        began = time.monotonic()
        self._channel.send(kind, fields)
        answer = self._channel.receive(bounds)
        self.waited += time.monotonic() - began
        return answer.fields(), bytes(answer.payload)


class GrowingFile(IncomingFile):
    """A local file that may still be growing."""

    def __init__(self, channel: ChildChannel, descriptor: int) -> None:
        """Read from `descriptor`; the service reports how much has arrived."""
        super().__init__(channel)
        self._descriptor = descriptor
        self._size = 0
        self._finished = False

    def _read_at(self, position: int, size: int) -> bytes:
        self._wait(position)
        return os.pread(self._descriptor, max(0, min(size, self._size - position)), position)

    def _end(self) -> int:
        self._wait(_THE_END)
        return self._size

    def _wait(self, position: int) -> None:
        """Wait until the byte at `position`, or all bytes, have arrived."""
        if position < self._size or self._finished:
            return
        answer, _ = self._ask(Kind.WAIT_FOR_BYTES, {"position": min(position, _THE_END)}, Bounds())
        self._size, self._finished = answer["size"], bool(answer["finished"])


class StoredFile(IncomingFile):
    """Bytes that only the service can reach, fetched in blocks. Memory: four blocks of 2 MiB."""

    def __init__(self, channel: ChildChannel, size: int) -> None:
        """Read a film of `size` bytes."""
        super().__init__(channel)
        self._size = size
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def _read_at(self, position: int, size: int) -> bytes:
        if position >= self._size:
            return b""
        number, offset = divmod(position, BLOCK_BYTES)
        return self._block(number)[offset : offset + size]

    def _end(self) -> int:
        return self._size

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        while len(self._blocks) >= _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        offset = number * BLOCK_BYTES
        length = min(BLOCK_BYTES, self._size - offset)
        _, block = self._ask(Kind.READ_BLOCK, {"offset": offset, "length": length}, _BLOCK_BOUNDS)
        self._blocks[number] = block
        return block
