"""Fits the memory of `fidelity` for frames unseen: bases for kinds of pictures, in closed form.

What a film did not show is best shown by what looks like it, wherever in the film that was. One
basis is found from the whole film with a prior that gives every strong DCT bin some variance of its
own, so that it can show what the film never did. For the rest, frames and enlarged parts of them
are grouped into kinds by what the whole film's basis makes of them (Lloyd, "Least squares
quantization in PCM", 1982), and each kind's basis is found with a little of the whole film's
variance, prior included. A picture counts by one over what the whole film's basis leaves of it:
it is the mean of PSNRs that counts, in which a picture that is easy weighs as much as a hard one.

Nothing is held but one kind, and some dozen numbers for each picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from trainer.dataset import FrameDataset
from trainer.errors import DatasetError
from trainer.recipes.fidelity.memory import (
    Memory,
    MemorySize,
    OnBasis,
    OnFrames,
    frames_to_survey,
    pictures_of,
    principal,
    spherical_code,
    survey,
)
from trainer.recipes.fidelity.networks import COORDINATES, Spectrum
from trainer.recipes.fidelity.packing import pack
from trainer.recipes.fidelity.parts import choose_parts, enlarge
from trainer.sampler import spread

_PIXELS = MODEL_FRAME_HEIGHT * MODEL_FRAME_WIDTH * 3
# Frames that the whole film's basis is found from, that kinds are told from, and pictures that a
# kind's basis is found from: more change little.
_FITTED = 2000
_LOOKED_AT = 6000
_OF_A_KIND = 1500
# Of each frame that kinds are told from: the frame, and parts of it.
_VIEWS = 4
# Pictures without which a kind is none.
_LEAST_KIND = 40
# Bins that are given variance of their own, as the film has it: in the whole film's basis, and, so
# many times, in what kinds know of it.
_PRIOR_BINS = 1500
_PRIOR_OF_KINDS = 4.0
# Directions of the whole film that a kind's basis is found with, and their share beside its own.
_COMMON_DIRECTIONS = 800
_COMMON_SHARE = 0.02
# Coordinates that pictures of a kind are alike in.
_LIKENESS = 60
# Of what the encoder sees: noise of four grey levels in each bin.
_PRECISION = 255 / 4
_ROUNDS = 25


@dataclass(frozen=True, slots=True)
class _Views:
    """Fitted frames, and parts of each: of every `_VIEWS` views the first is a frame as it is."""

    data: FrameDataset
    frames: NDArray[np.int64]
    parts: Tensor

    def rows(
        self, views: NDArray[np.int64], spectrum: Spectrum, on_frames: OnFrames
    ) -> Iterator[Tensor]:
        """Give views, in ascending order, as rows ``[N, bins]`` in batches."""
        done = 0
        for pictures in pictures_of(self.data, self.frames[views // _VIEWS], on_frames):
            now = torch.from_numpy(views[done : done + len(pictures)])
            done += len(pictures)
            is_part = now % _VIEWS > 0
            if is_part.any():
                pictures[is_part] = enlarge(pictures[is_part], self.parts[now[is_part]])
            yield spectrum(pictures)


def fit_kinds(
    data: FrameDataset,
    size: MemorySize,
    on_frames: OnFrames,
    on_basis: OnBasis = lambda memory, of: None,
) -> Memory:
    """Fit a memory to a data set's fitted frames that shall show others.

    Raises:
        DatasetError: There is no frame to fit.
    """
    if not len(data.fitted):
        raise DatasetError("There is no frame to fit: the data set is empty")
    bins, variances = survey(data, size.bins, on_frames)
    spectrum = Spectrum(bins)
    frames = spread(data.fitted, _FITTED)
    rows = torch.cat([spectrum(part) for part in pictures_of(data, frames, on_frames)])
    prior = _alone(variances)
    whole, directions = principal(rows, COORDINATES, besides=prior)
    _, common = principal(rows, _COMMON_DIRECTIONS, besides=_PRIOR_OF_KINDS**0.5 * prior)
    common *= _COMMON_SHARE**0.5
    del rows, prior

    views = _views(data)
    coordinates, left = _seen_by(whole, directions, views, spectrum, on_frames)
    weights = 1 / (left + 0.1 * left.median() + 1e-9)
    kinds = _kinds(weights.sqrt()[:, None] * coordinates, size.bases - 1)

    keys = spherical_code(1 + len(kinds))
    room = size.bytes / (1 + len(kinds))
    means, bases = [whole], [pack(directions.T, room)]
    # Bins are compared as they are: nobody knows what noise frames unseen have.
    precision = torch.full((min(size.seen, len(bins)),), _PRECISION)
    memory = Memory(bins, torch.stack(means), tuple(bases), keys[:1], precision)
    on_basis(memory, 1 + len(kinds))
    for kind in kinds:
        chosen = spread(kind, _OF_A_KIND)
        rows = torch.cat(list(views.rows(chosen, spectrum, on_frames)))
        on_frames(len(kind) - len(chosen))
        shares = weights[chosen] / weights[chosen].sum()
        mean, directions = principal(rows, COORDINATES, weights=shares, besides=common)
        means.append(mean)
        bases.append(pack(directions.T, room))
        memory = Memory(bins, torch.stack(means), tuple(bases), keys[: len(bases)], precision)
        on_basis(memory, 1 + len(kinds))
    return memory


def frames_to_group(data: FrameDataset) -> int:
    """Return how many frames `fit_kinds` works through."""
    count = len(data.fitted)
    # Views are read twice: to tell kinds, and to find their bases.
    return frames_to_survey(data) + min(count, _FITTED) + 2 * _VIEWS * min(count, _LOOKED_AT)


def _alone(variances: Tensor) -> Tensor:
    """Return bins that vary each by itself, as rows: ``[_PRIOR_BINS, bins]``."""
    count = min(_PRIOR_BINS, len(variances))
    rows = torch.zeros(count, len(variances))
    rows.diagonal().copy_(variances[:count].sqrt())
    return rows


def _views(data: FrameDataset) -> _Views:
    frames = spread(data.fitted, _LOOKED_AT)
    parts = choose_parts(_VIEWS * len(frames), torch.Generator().manual_seed(200))
    return _Views(data, frames, parts)


def _seen_by(
    mean: Tensor, directions: Tensor, views: _Views, spectrum: Spectrum, on_frames: OnFrames
) -> tuple[Tensor, Tensor]:
    """Return what a basis makes of views, and what it leaves of them.

    Returns:
        Their first coordinates, in the pictures' own measure, ``[views, _LIKENESS]``; and the mean
        square left, ``[views]``.
    """
    unit = directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-9)
    coordinates, left = [], []
    for rows in views.rows(np.arange(_VIEWS * len(views.frames)), spectrum, on_frames):
        off = rows - mean
        seen = off @ unit.T
        coordinates.append(seen[:, :_LIKENESS])
        left.append((off - seen @ unit).square().sum(1) / _PIXELS)
    return torch.cat(coordinates), torch.cat(left)


def _kinds(points: Tensor, most: int) -> list[NDArray[np.int64]]:
    """Group points ``[N, K]`` into at most so many kinds by nearness; return the members of each.

    A kind of few is dropped, and its members go where they are nearest then.
    """
    count = min(most, len(points) // _LEAST_KIND)
    if count < 1:
        return []
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(200))
    centres = points[order[:count]]
    for _ in range(_ROUNDS):
        nearest = torch.cdist(points, centres).argmin(1)
        totals = torch.zeros_like(centres).index_add_(0, nearest, points)
        members = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(members > 0, totals / members.clamp(min=1), centres)
    nearest = torch.cdist(points, centres).argmin(1)
    centres = centres[torch.bincount(nearest, minlength=count) >= _LEAST_KIND]
    nearest = torch.cdist(points, centres).argmin(1)
    groups = [np.flatnonzero((nearest == number).numpy()) for number in range(len(centres))]
    return [group for group in groups if len(group)]
