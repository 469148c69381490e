"""Fits the memory of `fidelity` for unseen frames: a basis for each cluster of similar pictures.

The first basis is fitted to the whole film with a prior that gives every strong DCT bin some
variance of its own, so that it can show what the film never did. For the others, frames and crops
of them are clustered by their coordinates in that basis (k-means: Lloyd, "Least squares
quantization in PCM", 1982), and each cluster's basis is fitted with a little of the whole film's
variance, prior included. A picture's weight is the inverse of its error in the whole film's basis:
the target is the mean PSNR, in which an easy picture counts as much as a hard one.

Only one cluster, and some dozen numbers for each picture, are in memory.
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
from trainer.recipes.fidelity.crops import random_crops, resize_crops
from trainer.recipes.fidelity.memory import (
    Memory,
    MemorySize,
    OnBasis,
    OnFrames,
    frames_for_selection,
    pictures_of,
    principal,
    select_bins,
    spherical_code,
)
from trainer.recipes.fidelity.networks import COORDINATES, Spectrum
from trainer.recipes.fidelity.packing import pack
from trainer.sampler import spread

_PIXELS = MODEL_FRAME_HEIGHT * MODEL_FRAME_WIDTH * 3
# Frames to fit the whole film's basis to, frames to cluster, and pictures to fit a cluster's basis
# to; more change little.
_FITTED = 2000
_CLUSTERED = 6000
_CLUSTER_SAMPLE = 1500
# Views of each clustered frame: the frame, and crops of it.
_VIEWS = 4
# Smaller clusters are dropped.
_MIN_CLUSTER = 40
# Bins of the prior, each with the film's variance in the whole film's basis, and that many times as
# much in the clusters' share of it.
_PRIOR_BINS = 1500
_CLUSTER_PRIOR = 4.0
# Directions of the whole film that are added to a cluster's covariance, and their share.
_COMMON_DIRECTIONS = 800
_COMMON_SHARE = 0.02
# Coordinates that pictures are clustered by.
_CLUSTER_COORDINATES = 60
# Of the encoder's bins: noise of four grey levels in each.
_PRECISION = 255 / 4
_ITERATIONS = 25


@dataclass(frozen=True, slots=True)
class _Views:
    """Fitted frames, and crops of each: of every `_VIEWS` views the first is the whole frame."""

    data: FrameDataset
    frames: NDArray[np.int64]
    crops: Tensor

    def rows(
        self, views: NDArray[np.int64], spectrum: Spectrum, on_frames: OnFrames
    ) -> Iterator[Tensor]:
        """Yield views, in ascending order, as rows ``[N, bins]`` in batches."""
        done = 0
        for pictures in pictures_of(self.data, self.frames[views // _VIEWS], on_frames):
            now = torch.from_numpy(views[done : done + len(pictures)])
            done += len(pictures)
            is_crop = now % _VIEWS > 0
            if is_crop.any():
                pictures[is_crop] = resize_crops(pictures[is_crop], self.crops[now[is_crop]])
            yield spectrum(pictures)


def fit_clusters(
    data: FrameDataset,
    size: MemorySize,
    on_frames: OnFrames,
    on_basis: OnBasis = lambda memory, of: None,
) -> Memory:
    """Fit a memory for unseen frames to a data set's fitted frames.

    Raises:
        DatasetError: There is no frame to fit.
    """
    if not len(data.fitted):
        raise DatasetError("There is no frame to fit: the data set is empty")
    bins, variances = select_bins(data, size.bins, on_frames)
    spectrum = Spectrum(bins)
    frames = spread(data.fitted, _FITTED)
    rows = torch.cat([spectrum(part) for part in pictures_of(data, frames, on_frames)])
    prior = _prior_rows(variances)
    whole, directions = principal(rows, COORDINATES, extra_rows=prior)
    _, common = principal(rows, _COMMON_DIRECTIONS, extra_rows=_CLUSTER_PRIOR**0.5 * prior)
    common *= _COMMON_SHARE**0.5
    del rows, prior

    views = _views(data)
    coordinates, residuals = _project(whole, directions, views, spectrum, on_frames)
    weights = 1 / (residuals + 0.1 * residuals.median() + 1e-9)
    clusters = _clusters(weights.sqrt()[:, None] * coordinates, size.bases - 1)

    keys = spherical_code(1 + len(clusters))
    basis_bytes = size.bytes / (1 + len(clusters))
    means, bases = [whole], [pack(directions.T, basis_bytes)]
    # Bins are not weighted: the noise of unseen frames is unknown.
    precision = torch.full((min(size.seen, len(bins)),), _PRECISION)
    memory = Memory(bins, torch.stack(means), tuple(bases), keys[:1], precision)
    on_basis(memory, 1 + len(clusters))
    for cluster in clusters:
        chosen = spread(cluster, _CLUSTER_SAMPLE)
        rows = torch.cat(list(views.rows(chosen, spectrum, on_frames)))
        on_frames(len(cluster) - len(chosen))
        shares = weights[chosen] / weights[chosen].sum()
        mean, directions = principal(rows, COORDINATES, weights=shares, extra_rows=common)
        means.append(mean)
        bases.append(pack(directions.T, basis_bytes))
        memory = Memory(bins, torch.stack(means), tuple(bases), keys[: len(bases)], precision)
        on_basis(memory, 1 + len(clusters))
    return memory


def frames_to_cluster(data: FrameDataset) -> int:
    """Return how many frames `fit_clusters` reads."""
    count = len(data.fitted)
    # Views are read twice: for clustering, and for fitting the bases.
    return frames_for_selection(data) + min(count, _FITTED) + 2 * _VIEWS * min(count, _CLUSTERED)


def _prior_rows(variances: Tensor) -> Tensor:
    """Return independently varying bins as rows, ``[_PRIOR_BINS, bins]``."""
    count = min(_PRIOR_BINS, len(variances))
    rows = torch.zeros(count, len(variances))
    rows.diagonal().copy_(variances[:count].sqrt())
    return rows


def _views(data: FrameDataset) -> _Views:
    frames = spread(data.fitted, _CLUSTERED)
    crops = random_crops(_VIEWS * len(frames), torch.Generator().manual_seed(200))
    return _Views(data, frames, crops)


def _project(
    mean: Tensor, directions: Tensor, views: _Views, spectrum: Spectrum, on_frames: OnFrames
) -> tuple[Tensor, Tensor]:
    """Project views onto a basis.

    Returns:
        Their first coordinates, in the pictures' scale, ``[views, _CLUSTER_COORDINATES]``; and the
        mean square residuals, ``[views]``.
    """
    unit = directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-9)
    coordinates, residuals = [], []
    for rows in views.rows(np.arange(_VIEWS * len(views.frames)), spectrum, on_frames):
        off = rows - mean
        seen = off @ unit.T
        coordinates.append(seen[:, :_CLUSTER_COORDINATES])
        residuals.append((off - seen @ unit).square().sum(1) / _PIXELS)
    return torch.cat(coordinates), torch.cat(residuals)


def _clusters(points: Tensor, most: int) -> list[NDArray[np.int64]]:
    """Group points ``[N, K]`` into at most `most` clusters (k-means); return each one's members.

    Small clusters are dropped, and their members move to the nearest other one.
    """
    count = min(most, len(points) // _MIN_CLUSTER)
    if count < 1:
        return []
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(200))
    centres = points[order[:count]]
    for _ in range(_ITERATIONS):
        nearest = torch.cdist(points, centres).argmin(1)
        totals = torch.zeros_like(centres).index_add_(0, nearest, points)
        members = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(members > 0, totals / members.clamp(min=1), centres)
    nearest = torch.cdist(points, centres).argmin(1)
    centres = centres[torch.bincount(nearest, minlength=count) >= _MIN_CLUSTER]
    nearest = torch.cdist(points, centres).argmin(1)
    groups = [np.flatnonzero((nearest == number).numpy()) for number in range(len(centres))]
    return [group for group in groups if len(group)]
