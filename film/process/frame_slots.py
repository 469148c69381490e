"""Model frames in memory shared by the service and one child: slots of one batch each.

The memory has no name and its size is sealed (a child that truncated it would kill the service by
SIGBUS at its next access). Its contents may change at any time, so they are copied before use.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Self

import numpy as np
from numpy.typing import NDArray

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH

SLOT_FRAMES = 32
"""Model frames in one slot; no batch is larger. Measured with a `pca` model on two cores that were
busy with other work as well, 640 x 360, frames a second, median (range): 32 frames 209 (173 to
240), 16 frames 157 (129 to 218), both with two batches passed; 32 frames and one passed 117; 8
frames and four 139; 16 frames and four 151."""

_FRAME_SHAPE = (MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3)
_SLOT_BYTES = SLOT_FRAMES * MODEL_FRAME_HEIGHT * MODEL_FRAME_WIDTH * 3
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class FrameSlots:
    """Both sides' view of the shared frames."""

    def __init__(self, memory: mmap.mmap, slots: int) -> None:
        self._memory = memory
        self.count = slots
        """How many slots there are; they are numbered from 0."""
        self._frames: NDArray[np.uint8] = np.frombuffer(memory, np.uint8).reshape(
            slots, SLOT_FRAMES, *_FRAME_SHAPE
        )

    @classmethod
    def create(cls, slots: int) -> tuple[Self, int]:
        """Create the memory; return this side's view, and the descriptor to pass to the child."""
        descriptor = os.memfd_create("refilm-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, slots * _SLOT_BYTES)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            return cls(mmap.mmap(descriptor, slots * _SLOT_BYTES), slots), descriptor
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def attach(cls, descriptor: int) -> Self:
        """Map memory that the other side created; the descriptor may be closed afterwards."""
        memory = mmap.mmap(descriptor, 0)
        return cls(memory, len(memory) // _SLOT_BYTES)

    def copy_out(self, slot: int, count: int) -> NDArray[np.uint8]:
        """Return a copy of a slot's first frames, [count, 144, 256, 3] RGB.

        Raises ValueError if there is no such slot, or if it is smaller.
        """
        self._check(slot, count)
        return self._frames[slot, :count].copy()

    def copy_in(self, slot: int, frames: NDArray[np.uint8]) -> None:
        """Copy frames, [N, 144, 256, 3] RGB, into a slot; raises ValueError if they do not fit."""
        self._check(slot, len(frames))
        self._frames[slot, : len(frames)] = frames

    def close(self) -> None:
        """Release the memory, and the descriptor that Python keeps for it."""
        del self._frames
        self._memory.close()

    def _check(self, slot: int, count: int) -> None:
        if not 0 <= slot < self.count or not 0 <= count <= SLOT_FRAMES:
            raise ValueError(f"there is no place for {count} frames in slot {slot}")
