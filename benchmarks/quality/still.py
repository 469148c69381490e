"""Measures whether shots that stand still come back so, on changes from all over a film.

Among every n-th frame there are few of them; so they are looked for, and taken evenly.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quality.film import Film
from trainer.measures import STATIC_CHANGE
from trainer.metrics import Change, change, correlation
from trainer.sampler import spread

STILL_CHANGES = 240
_BATCH = 32


def still_frames(film: Film) -> NDArray[np.int64]:
    """Return frames of static shots (`trainer.measures`), none a shot's first, spread evenly."""
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
    return spread(np.concatenate(found), STILL_CHANGES) if found else np.zeros(0, np.int64)


class StillChanges:
    """The changes into given frames, as they come back."""

    def __init__(self, film: Film, index: NDArray[np.int64]) -> None:
        """Begin; the frames are those that `still_frames` found."""
        self.index = index
        self._film = film
        self._wanted = set(index.tolist())
        self._changes: dict[int, Change] = {}
        self._before: tuple[int, Tensor, Tensor] | None = None

    def frames_to_read(self) -> Iterator[NDArray[np.int64]]:
        """Give the frames to reconstruct, and the one before each, in batches, in order."""
        frames = np.union1d(self.index, self.index - 1)
        for first in range(0, len(frames), _BATCH):
            yield frames[first : first + _BATCH]

    def add(self, indices: NDArray[np.int64], result: Tensor) -> None:
        """Measure a batch of what was frames_to_read: uint8 ``[N, 144, 256, 3]``."""
        source = torch.from_numpy(self._film.data.frames(indices))
        for row, index in enumerate(indices.tolist()):
            now = (index, source[row], result[row].cpu())
            if index in self._wanted and self._before is not None:
                self._changes[index] = change(self._before[1:], now[1:])
            self._before = now

    def summary(self, chosen: NDArray[np.bool_]) -> dict[str, object] | None:
        """Return the correlation over some of the frames' changes; None where nothing changes."""
        changes = [self._changes[index] for index in self.index[chosen].tolist()]
        found = correlation(changes) if changes else None
        return None if found is None else {"changes": len(changes), "correlation": found}
