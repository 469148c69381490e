"""A film's file whose bytes still arrive, for a reader on another thread."""

import io
import threading


class GivenUpError(Exception):
    """Nothing more will arrive."""


class ArrivingFile(io.RawIOBase):
    """One thread writes, another reads; reads wait for bytes that have not arrived."""

    def __init__(self) -> None:
        super().__init__()
        self._data = bytearray()
        self._position = 0
        self._finished = False
        self._given_up = False
        self._changed = threading.Condition()

    def arrive(self, data: bytes) -> None:
        with self._changed:
            self._data += data
            self._changed.notify_all()

    def finish(self) -> None:
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """Make reads that wait raise GivenUpError."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        with self._changed:
            self._wait(lambda: self._position < len(self._data))
            stop = None if size < 0 else self._position + size
            data = bytes(self._data[self._position : stop])
            self._position += len(data)
            return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_END:
            with self._changed:
                self._wait(lambda: False)
                offset += len(self._data)
        elif whence == io.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def _wait(self, enough) -> None:
        self._changed.wait_for(lambda: self._given_up or self._finished or enough())
        if self._given_up and not (self._finished or enough()):
            raise GivenUpError
