"""Fits the memory of `fidelity`: principal-component bases for segments of a film, in closed form.

A film is split at its cuts into segments of about equal length, each with its own basis: few scenes
need few directions (mixtures of principal components: Kambhatla and Leen, "Dimension reduction by
local PCA", 1997; Tipping and Bishop, "Mixtures of probabilistic principal component analysers",
1999). A frame is encoded by the basis that fits it best, whichever segment it comes from, so that
recurring scenes and other films find the nearest basis.

Bases cover the colour DCT bins that vary most, and are packed to the size's bytes (`packing`). Only
one segment is in memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from trainer.dataset import FrameDataset
from trainer.durable import sync
from trainer.errors import DatasetError, RunError
from trainer.export import to_pictures
from trainer.recipes.fidelity.networks import (
    COMMON_BINS,
    COORDINATES,
    KEY_SIZE,
    Common,
    MemoryDecoder,
    MemoryEncoder,
    Spectrum,
)
from trainer.recipes.fidelity.packing import BLOCK_ROWS, Packed, PackedBases, pack
from trainer.sampler import spread

_BATCH = 128
_PIXELS = MODEL_FRAME_HEIGHT * MODEL_FRAME_WIDTH * 3
# Frames for selecting bins, and for fitting a basis: more change little.
_SELECTION_FRAMES = 2048
_FITTED = 2000
# Shorter segments do not fill a basis's coordinates.
_MIN_SEGMENT_FRAMES = 100
# How far a segment's end may move to a cut, in segment lengths.
_CUT_WITHIN = 0.35
# Largest multiple of a size's bins for a basis: unpacking more takes too long.
_MAX_REACH = 2
# Mean square change, in grey levels, at which a shot's changes get half of a static one's weight.
_LIVELY = 20.0
_REPULSIONS = 800
# Smallest noise of a bin: half a grey level.
_MIN_NOISE = (0.5 / 255) ** 2

OnFrames = Callable[[int], None]
"""Called with the number of frames just processed."""

OnBasis = Callable[["Memory", int], None]
"""Called after each basis with the memory so far and the final number of bases."""


@dataclass(frozen=True, slots=True)
class MemorySize:
    """Limits on a memory's size."""

    bases: int
    """At most."""
    bins: int
    """DCT bins of a basis; up to twice as many if a film has fewer bases."""
    seen: int
    """DCT bins that the encoder uses."""
    bytes: int
    """For all packed bases together."""
    changes: float = 0.0
    """Weight of a frame's change from the one before, relative to the frame, in static shots."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A fitted memory; `encoder`, `decoder` and `common` return its modules."""

    bins: Tensor
    """Indices into a flattened ``[3, 144, 256]``, by descending variance, int64 ``[bins]``."""
    means: Tensor
    """Of the segments' bins, float32 ``[bases, bins]``."""
    bases: tuple[Packed, ...]
    keys: Tensor
    """Float32 ``[bases, KEY_SIZE]``."""
    precision: Tensor
    """Scale of the encoder's bins before they are compared, float32 ``[seen]``."""

    def packed(self) -> PackedBases:
        """Return the bases as a module that unpacks them."""
        return PackedBases(self.bases, len(self.bins), COORDINATES)

    def decoder(self) -> MemoryDecoder:
        """Return the module from latents to pictures."""
        return MemoryDecoder(Spectrum(self.bins), self.means, self.packed(), self.keys)

    def common(self) -> Common:
        """Return the module from latents to the bins that embeddings are made from."""
        packed = self.packed()
        bases = torch.stack([packed(number)[:COMMON_BINS] for number in range(len(self.bases))])
        return Common(self.means[:, :COMMON_BINS].half().float(), bases, self.keys)

    def encoder(self) -> MemoryEncoder:
        """Return the module from pictures to latents."""
        seen = len(self.precision)
        packed = self.packed()
        levels, steps, maps = [], [], []
        for number in range(len(self.bases)):
            loads = self.precision[:, None] * packed(number)[:seen]
            directions, _ = torch.linalg.qr(loads.double())
            # QR returns arbitrary directions for the empty columns of a short segment.
            directions = directions * (loads.abs().amax(0) > 0)
            step = (directions.abs().amax(1, keepdim=True) / 127).clamp(min=1e-6).half()
            level = (directions / step.double()).round()
            # The map to coordinates compensates for the rounding to 8 bits.
            kept = level * step.double()
            load = kept.T @ loads.double()
            inner = load @ load.T + kept.T @ kept + 1e-9 * torch.eye(COORDINATES).double()
            levels.append(level.to(torch.int8))
            steps.append(step)
            maps.append(torch.linalg.solve(inner, load).float())
        return MemoryEncoder(
            Spectrum(self.bins[:seen]),
            self.means[:, :seen],
            self.precision,
            torch.stack(levels),
            torch.stack(steps),
            torch.stack(maps),
            self.keys,
        )

    def save(self, path: Path, identity: str) -> None:
        """Write it atomically to a file, with an identity of its inputs."""
        bases = [
            {name: getattr(basis, name) for name in Packed.__dataclass_fields__}
            for basis in self.bases
        ]
        staged = path.with_name(f".{path.name}")
        rest = {name: getattr(self, name) for name in ("bins", "means", "keys", "precision")}
        torch.save({**rest, "bases": bases, "identity": identity}, staged)
        sync(staged)
        staged.replace(path)

    @classmethod
    def load(cls, path: Path) -> tuple["Memory", str]:
        """Read what `save` wrote: the memory and the identity.

        Raises:
            RunError: The file is damaged.
        """
        try:
            found = torch.load(path, weights_only=True)
            identity: str = found.pop("identity")
            bases = tuple(Packed(**basis) for basis in found.pop("bases"))
        except Exception as error:  # torch raises half a dozen unrelated types for a damaged file
            raise RunError(f"{path} is damaged: remove it to fit it again") from error
        return cls(bases=bases, **found), identity


def fit_memory(
    data: FrameDataset,
    size: MemorySize,
    on_frames: OnFrames,
    on_basis: OnBasis = lambda memory, of: None,
) -> Memory:
    """Fit a memory to a data set's fitted frames.

    Raises:
        DatasetError: There is no frame to fit.
    """
    fitted = data.fitted
    if not len(fitted):
        raise DatasetError("There is no frame to fit: the data set is empty")
    segments = _segments(data, size.bases)
    # With fewer bases, each may cover more bins.
    reach = min(_MAX_REACH * size.bins, size.bins * size.bases // len(segments))
    bins, _ = select_bins(data, reach, on_frames)
    spectrum = Spectrum(bins)
    keys = spherical_code(len(segments))
    firsts = [shot.first for shot in data.shots]
    means, bases, leftovers = [], [], []
    for segment in segments:
        rows = torch.cat([spectrum(part) for part in pictures_of(data, segment, on_frames)])
        shots = np.searchsorted(firsts, segment, side="right")
        extra_rows = size.changes**0.5 * _changes(rows, shots)
        mean, directions = principal(rows, COORDINATES, extra_rows=extra_rows)
        packed = pack(directions.T, size.bytes / len(segments))
        means.append(mean)
        bases.append(packed)
        leftovers.append(_residual(rows - mean, packed)[: size.seen])
        noise = torch.stack(leftovers).mean(0) + _MIN_NOISE
        # Only half of the noise's weighting: what counts in the end is the picture's error.
        precision = (noise.rsqrt() * noise.rsqrt().mean()).sqrt()
        memory = Memory(bins, torch.stack(means), tuple(bases), keys[: len(bases)], precision)
        on_basis(memory, len(segments))
    return memory


def frames_to_read(data: FrameDataset, size: MemorySize) -> int:
    """Return how many frames `fit_memory` reads."""
    segments = _segments(data, size.bases)
    return frames_for_selection(data) + sum(len(segment) for segment in segments)


def _segments(data: FrameDataset, bases: int) -> list[NDArray[np.int64]]:
    """Split the fitted frames into segments, subsampling long ones.

    Segments end at cuts if any are near: a shot in two bases would jump from one to the other.
    """
    fitted = data.fitted
    count = max(1, min(bases, len(fitted) // _MIN_SEGMENT_FRAMES))
    length = len(fitted) / count
    cuts = np.searchsorted(fitted, [shot.first for shot in data.shots])
    ends = []
    for number in range(1, count):
        even = round(number * length)
        nearest = int(cuts[np.abs(cuts - even).argmin()])
        ends.append(nearest if abs(nearest - even) <= _CUT_WITHIN * length else even)
    return [spread(part, _FITTED) for part in np.split(fitted, ends)]


def select_bins(data: FrameDataset, count: int, on_frames: OnFrames) -> tuple[Tensor, Tensor]:
    """Return the strongest bins of the fitted frames, by descending variance, and their variances.

    Bins are selected by their mean square, the error of leaving them out; constant bins count too.

    Args:
        data: The frames.
        count: How many bins to select, rounded down to whole blocks (`BLOCK_ROWS`).
        on_frames: Called with the number of frames just processed.
    """
    everything = Spectrum(torch.arange(_PIXELS))
    total = torch.zeros(_PIXELS, dtype=torch.float64)
    squares = torch.zeros(_PIXELS, dtype=torch.float64)
    indices = spread(data.fitted, _SELECTION_FRAMES)
    for pictures in pictures_of(data, indices, on_frames):
        seen = everything(pictures).double()
        total += seen.sum(0)
        squares += seen.square().sum(0)
    variances = squares / len(indices) - (total / len(indices)).square()
    strongest = squares.argsort(descending=True)[: count - count % BLOCK_ROWS]
    bins = strongest[variances[strongest].argsort(descending=True)]
    return bins, variances[bins].float().clamp(min=0.0)


def frames_for_selection(data: FrameDataset) -> int:
    """Return how many frames `select_bins` reads."""
    return min(len(data.fitted), _SELECTION_FRAMES)


def _changes(rows: Tensor, shots: NDArray[np.int64]) -> Tensor:
    """Return the changes from frame to frame within shots, as weighted rows to fit a basis to.

    Motion in a static shot is small against the picture and would be lost, so the changes of
    static shots get more weight.

    Args:
        rows: The frames, ``[frames, bins]``.
        shots: Which shot each is of, ``[frames]``.
    """
    changes = (rows[1:] - rows[:-1])[torch.from_numpy(shots[1:] == shots[:-1])]
    _, shot = np.unique(shots[1:][shots[1:] == shots[:-1]], return_inverse=True)
    squares = changes.square().sum(1).double().numpy() * 255.0**2 / _PIXELS
    mean_squares = np.bincount(shot, squares) / np.bincount(shot)
    weights = 1 / (1 + mean_squares / _LIVELY) / len(rows)
    return torch.from_numpy(weights[shot]).sqrt().float()[:, None] * changes


def principal(
    rows: Tensor, count: int, *, weights: Tensor | None = None, extra_rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the principal components of frames and of extra rows.

    Computed through the Gram matrix, since there are fewer rows than bins.

    Args:
        rows: ``[frames, bins]``.
        count: How many components to find.
        weights: Of each frame, ``[frames]``, with the sum 1; None: equal.
        extra_rows: ``[R, bins]``; their sum of squares is added to the frames' covariance.

    Returns:
        The mean ``[bins]``; the components as rows ``[count, bins]``, strongest first, scaled by
        the standard deviation along them; zeros if there are fewer.
    """
    if weights is None:
        weights = torch.full((len(rows),), 1 / len(rows))
    mean = weights @ rows
    known = weights.sqrt()[:, None] * (rows - mean)
    if extra_rows is not None:
        known = torch.cat([known, extra_rows])
    strengths, mixtures = torch.linalg.eigh(known @ known.T)
    found = int((strengths > 1e-6 * strengths[-1].clamp(min=1e-9)).sum())
    directions = torch.zeros(count, rows.shape[1])
    kept = min(count, found)
    directions[:kept] = mixtures.flip(1)[:, :kept].T @ known
    return mean, directions


def _residual(rows: Tensor, packed: Packed) -> Tensor:
    """Return the mean square error ``[bins]`` of mean-free rows in a packed basis."""
    basis = PackedBases([packed], rows.shape[1], COORDINATES)(0)
    inner = basis.T @ basis + 1e-6 * torch.eye(COORDINATES)
    coordinates = torch.linalg.solve(inner, basis.T @ rows.T)
    left: Tensor = (rows - (basis @ coordinates).T).square().mean(0)
    return left


def spherical_code(count: int) -> Tensor:
    """Return points far apart on the unit sphere, float32 ``[count, KEY_SIZE]``.

    They repel one another from a fixed start, so that the result is deterministic.
    """
    generator = torch.Generator().manual_seed(200)
    points = torch.randn(count, KEY_SIZE, generator=generator, dtype=torch.float64)
    for step in range(_REPULSIONS):
        done = step / _REPULSIONS
        points = points / points.norm(dim=1, keepdim=True)
        apart = points[:, None] - points[None]
        # First over long distances, then over short ones.
        nearness = (-(4.0 + 12.0 * done) * apart.square().sum(2)).exp()
        points = points + 2.0 * (1 - done) * (nearness[:, :, None] * apart).sum(1)
    keys: Tensor = (points / points.norm(dim=1, keepdim=True)).float()
    return keys


def pictures_of(
    data: FrameDataset, indices: NDArray[np.int64], on_frames: OnFrames
) -> Iterator[Tensor]:
    """Yield frames as pictures, float32 ``[N, 3, 144, 256]`` from 0 to 1, in batches."""
    for first in range(0, len(indices), _BATCH):
        frames = data.frames(indices[first : first + _BATCH])
        yield to_pictures(torch.from_numpy(frames))
        on_frames(len(frames))
