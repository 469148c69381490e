"""How much memory a process holds during a block."""

import threading
from typing import Self

import psutil


class Watched:
    """Samples a process's resident memory, many times a second, until the block is left."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self.before = 0
        """Bytes when it began."""
        self.peak = 0
        """The largest number of bytes seen."""

    def __enter__(self) -> Self:
        self.before = self.peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        """Bytes by which the peak exceeds the beginning."""
        return self.peak - self.before

    def _sample(self) -> None:
        while not self._ended.wait(0.01):
            self.peak = max(self.peak, self._process.memory_info().rss)
