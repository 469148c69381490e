"""A film to measure on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.dataset import FrameDataset

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Film:
    """A film to measure on, frame by frame."""

    title: str
    data: FrameDataset

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Give all frames in order, in batches."""
        for first in range(0, len(self.data), _BATCH):
            yield self.data.frames(np.arange(first, min(first + _BATCH, len(self.data))))
