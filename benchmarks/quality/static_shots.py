"""Measures the temporal correlation in static shots, on changes from all over a film.

There are few of them among every n-th frame, so they are searched for and sampled evenly.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quality.measured_film import Film
from trainer.frame_metrics import Change, change, correlation
from trainer.measures import STATIC_CHANGE
from trainer.sampler import spread

STATIC_CHANGES = 240
_BATCH = 32


def static_frames(film: Film) -> NDArray[np.int64]:
    """Return evenly spread frames of static shots (`trainer.measures`), no shot's first frame."""
    levels = np.full(len(film.data), np.nan)
    before: NDArray[np.uint8] | None = None
    done = 0
    for batch in film.frames():
        for frame in batch:
            if before is not None:
                levels[done] = np.abs(frame.astype(np.int16) - before).mean()
            before, done = frame.copy(), done + 1
    found = [
        np.arange(shot.first + 1, shot.stop)
        for shot in film.data.shots
        if shot.stop > shot.first + 1 and levels[shot.first + 1 : shot.stop].mean() < STATIC_CHANGE
    ]
    return spread(np.concatenate(found), STATIC_CHANGES) if found else np.zeros(0, np.int64)


class StaticChanges:
    """The reconstructed changes into given frames."""

    def __init__(self, film: Film, index: NDArray[np.int64]) -> None:
        """Take the frames that `static_frames` found."""
        self.index = index
        self._film = film
        self._wanted = set(index.tolist())
        self._changes: dict[int, Change] = {}
        self._before: tuple[int, Tensor, Tensor] | None = None

    def frames_to_read(self) -> Iterator[NDArray[np.int64]]:
        """Yield the frames to reconstruct, and the one before each, in batches, in order."""
        frames = np.union1d(self.index, self.index - 1)
        for first in range(0, len(frames), _BATCH):
            yield frames[first : first + _BATCH]

    def add(self, indices: NDArray[np.int64], result: Tensor) -> None:
        """Measure a batch of `frames_to_read`, uint8 ``[N, 144, 256, 3]``."""
        source = torch.from_numpy(self._film.data.frames(indices))
        for row, index in enumerate(indices.tolist()):
            now = (index, source[row], result[row].cpu())
            if index in self._wanted and self._before is not None:
                self._changes[index] = change(self._before[1:], now[1:])
            self._before = now

    def summary(self, chosen: NDArray[np.bool_]) -> dict[str, object] | None:
        """Return the correlation over some of the frames' changes; None without any change."""
        changes = [self._changes[index] for index in self.index[chosen].tolist()]
        found = correlation(changes) if changes else None
        return None if found is None else {"changes": len(changes), "correlation": found}
