"""The order of training frames, and a thread that prefetches batches.

The order is a function of the seed and the position alone, so a run that resumes from a checkpoint
needs only the number of frames already seen to continue in the same order.
"""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DatasetError

PREFETCH = 4
"""Batches to prefetch; with the one in use, the most that are in memory."""


class Frames(Protocol):
    """The part of a data set that training uses."""

    @property
    def fitted(self) -> NDArray[np.int64]:
        """Indices of the frames to train on, [N]."""

    @property
    def held_out(self) -> NDArray[np.int64]:
        """Indices of the held-out frames, [M]."""

    def frames(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return frames as [len(indices), 144, 256, 3] RGB."""


class Order:
    """An endless shuffle: every frame once an epoch, each epoch in another order.

    Raises:
        DatasetError: there is no frame to train on.
    """

    def __init__(self, indices: NDArray[np.int64], seed: int) -> None:
        if len(indices) == 0:
            raise DatasetError("the data set has no frame to train on")
        self._indices = indices
        self._seed = seed
        self._epoch = -1
        self._shuffled = indices

    def at(self, position: int, count: int) -> NDArray[np.int64]:
        """Return `count` frame indices from `position` on (frames seen since the start)."""
        parts: list[NDArray[np.int64]] = []
        while count > 0:
            epoch, offset = divmod(position, len(self._indices))
            part = self._of_epoch(epoch)[offset : offset + count]
            parts.append(part)
            position += len(part)
            count -= len(part)
        return np.concatenate(parts)

    def _of_epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            shuffle = np.random.default_rng([self._seed, epoch]).permutation(len(self._indices))
            self._epoch, self._shuffled = epoch, self._indices[shuffle]
        return self._shuffled


@contextmanager
def batches(
    data: Frames, order: Order, *, seen: int, batch: int, rank: int, world: int
) -> Iterator[Iterator[NDArray[np.uint8]]]:
    """Yield an endless iterator of this process's batches, prefetched by a thread.

    At each step the processes take `world` adjacent slices of one order, so no frame is repeated.

    Args:
        data: source of the frames.
        order: of the frames.
        seen: frames that all processes together have seen before.
        batch: frames a step in each process.
        rank: of this process.
        world: number of processes.
    """
    ready: queue.Queue[NDArray[np.uint8] | BaseException] = queue.Queue(PREFETCH)
    stopped = threading.Event()

    def read() -> None:
        position = seen + rank * batch
        try:
            while not stopped.is_set():
                ready.put(data.frames(order.at(position, batch)))
                position += world * batch
        except BaseException as error:  # raised again in the training thread
            ready.put(error)

    def take() -> Iterator[NDArray[np.uint8]]:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=read, name="frames", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        while thread.is_alive():
            with suppress(queue.Empty):
                ready.get(timeout=0.05)
        thread.join()


def spread(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Choose up to `count` indices at even steps, away from both ends."""
    count = min(count, len(indices))
    return indices[(np.arange(count) * 2 + 1) * len(indices) // (2 * count)]
