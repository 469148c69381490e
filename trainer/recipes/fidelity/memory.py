"""Fits the memory of `fidelity`: a film in a handful of principal-component bases, in closed form.

A film is cut into stretches, at its cuts, of about equal length, and each is given a basis of its
own: few scenes fit into few directions (mixtures of principal components: Kambhatla and Leen,
"Dimension reduction by local PCA", 1997; Tipping and Bishop, "Mixtures of probabilistic principal
component analysers", 1999). Which stretch a frame comes from is not asked when it is encoded: the
basis that suits takes it, so a scene that comes back, or another film, finds what is nearest.

Bases live among the bins of a colour DCT that vary most, which is where a film's bits are, and are
packed into the bytes that there are (`fidelity_packing`). Nothing is held but one stretch.
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
# Frames that tell which bins vary, and that a basis is found from: more change little.
_SURVEYED = 2048
_FITTED = 2000
# Fewer frames than this a stretch do not fill a basis's coordinates.
_LEAST_STRETCH = 100
# How far from equal lengths a stretch's end is looked for among the cuts, in lengths.
_CUT_WITHIN = 0.35
# How many times as many bins as said a single basis reaches over: unpacking them takes its time.
_FARTHEST = 2
# At what mean square change, in grey levels, a shot's changes count half as much as a still one's.
_LIVELY = 20.0
_REPULSIONS = 800
# Noise that no bin is without: half a grey level.
_LEAST_NOISE = (0.5 / 255) ** 2

OnFrames = Callable[[int], None]
"""Told how many more frames were worked through."""

OnBasis = Callable[["Memory", int], None]
"""Told, with each basis that is found, the memory as it is now and how many bases there will be."""


@dataclass(frozen=True, slots=True)
class MemorySize:
    """How much a memory may keep."""

    bases: int
    """At most."""
    bins: int
    """DCT bins that bases reach over; up to twice as many where a film has fewer bases."""
    seen: int
    """DCT bins that the encoder looks at."""
    bytes: int
    """For the packed bases, all together."""
    changes: float = 0.0
    """How much a frame's change from the one before counts beside the frame, in still shots."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What was found; `encoder`, `decoder` and `common` make modules of it."""

    bins: Tensor
    """Places in a flattened ``[3, 144, 256]``, most varied first, int64 ``[bins]``."""
    means: Tensor
    """Of the stretches' bins, float32 ``[bases, bins]``."""
    bases: tuple[Packed, ...]
    keys: Tensor
    """Float32 ``[bases, KEY_SIZE]``."""
    precision: Tensor
    """What the bins seen are multiplied by before they are compared, float32 ``[seen]``."""

    def packed(self) -> PackedBases:
        """Return the bases as a module that unpacks them."""
        return PackedBases(self.bases, len(self.bins), COORDINATES)

    def decoder(self) -> MemoryDecoder:
        """Return the half from latents to pictures."""
        return MemoryDecoder(Spectrum(self.bins), self.means, self.packed(), self.keys)

    def common(self) -> Common:
        """Return what embeddings are made of."""
        packed = self.packed()
        bases = torch.stack([packed(number)[:COMMON_BINS] for number in range(len(self.bases))])
        return Common(self.means[:, :COMMON_BINS].half().float(), bases, self.keys)

    def encoder(self) -> MemoryEncoder:
        """Return the half from pictures to latents."""
        seen = len(self.precision)
        packed = self.packed()
        levels, steps, maps = [], [], []
        for number in range(len(self.bases)):
            loads = self.precision[:, None] * packed(number)[:seen]
            directions, _ = torch.linalg.qr(loads.double())
            # A stretch of few frames leaves columns empty: QR would make directions up for them.
            directions = directions * (loads.abs().amax(0) > 0)
            step = (directions.abs().amax(1, keepdim=True) / 127).clamp(min=1e-6).half()
            level = (directions / step.double()).round()
            # Kept in 8 bits they are a little off, which their map to coordinates makes up for.
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
        """Write it to a file, whole or not at all, with what it was made of."""
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
        """Read what `save` wrote: the memory, and what it was made of.

        Raises:
            RunError: The file is damaged.
        """
        try:
            found = torch.load(path, weights_only=True)
            identity: str = found.pop("identity")
            bases = tuple(Packed(**basis) for basis in found.pop("bases"))
        except Exception as error:  # torch raises half a dozen unrelated types for a damaged file
            raise RunError(f"{path} is damaged: remove it, and it is fitted anew") from error
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
    stretches = _stretches(data, size.bases)
    # Where there are fewer bases than bytes for them, they may reach farther.
    reach = min(_FARTHEST * size.bins, size.bins * size.bases // len(stretches))
    bins, _ = survey(data, reach, on_frames)
    spectrum = Spectrum(bins)
    keys = spherical_code(len(stretches))
    firsts = [shot.first for shot in data.shots]
    means, bases, leftovers = [], [], []
    for stretch in stretches:
        rows = torch.cat([spectrum(part) for part in pictures_of(data, stretch, on_frames)])
        shots = np.searchsorted(firsts, stretch, side="right")
        besides = size.changes**0.5 * _changes(rows, shots)
        mean, directions = principal(rows, COORDINATES, besides=besides)
        packed = pack(directions.T, size.bytes / len(stretches))
        means.append(mean)
        bases.append(packed)
        leftovers.append(_left_over(rows - mean, packed)[: size.seen])
        noise = torch.stack(leftovers).mean(0) + _LEAST_NOISE
        # Half of what the noise asks for: in the end it is the picture's error that counts.
        precision = (noise.rsqrt() * noise.rsqrt().mean()).sqrt()
        memory = Memory(bins, torch.stack(means), tuple(bases), keys[: len(bases)], precision)
        on_basis(memory, len(stretches))
    return memory


def frames_to_read(data: FrameDataset, size: MemorySize) -> int:
    """Return how many frames `fit_memory` works through."""
    stretches = _stretches(data, size.bases)
    return frames_to_survey(data) + sum(len(stretch) for stretch in stretches)


def _stretches(data: FrameDataset, bases: int) -> list[NDArray[np.int64]]:
    """Cut the fitted frames into stretches, and thin out the long ones.

    They end at cuts where cuts are near: a shot in two bases would jump from one to the other.
    """
    fitted = data.fitted
    count = max(1, min(bases, len(fitted) // _LEAST_STRETCH))
    length = len(fitted) / count
    cuts = np.searchsorted(fitted, [shot.first for shot in data.shots])
    ends = []
    for number in range(1, count):
        even = round(number * length)
        nearest = int(cuts[np.abs(cuts - even).argmin()])
        ends.append(nearest if abs(nearest - even) <= _CUT_WITHIN * length else even)
    return [spread(part, _FITTED) for part in np.split(fitted, ends)]


def survey(data: FrameDataset, count: int, on_frames: OnFrames) -> tuple[Tensor, Tensor]:
    """Find the bins that fitted frames are made of, most varied first, and their variances.

    What leaving a bin out costs is its square: one that never changes is picture as well.

    Args:
        data: The frames.
        count: How many bins to find; whole blocks of them are (`BLOCK_ROWS`).
        on_frames: Told how many frames were worked through.
    """
    everything = Spectrum(torch.arange(_PIXELS))
    total = torch.zeros(_PIXELS, dtype=torch.float64)
    squares = torch.zeros(_PIXELS, dtype=torch.float64)
    indices = spread(data.fitted, _SURVEYED)
    for pictures in pictures_of(data, indices, on_frames):
        seen = everything(pictures).double()
        total += seen.sum(0)
        squares += seen.square().sum(0)
    variances = squares / len(indices) - (total / len(indices)).square()
    strongest = squares.argsort(descending=True)[: count - count % BLOCK_ROWS]
    bins = strongest[variances[strongest].argsort(descending=True)]
    return bins, variances[bins].float().clamp(min=0.0)


def frames_to_survey(data: FrameDataset) -> int:
    """Return how many frames `survey` works through."""
    return min(len(data.fitted), _SURVEYED)


def _changes(rows: Tensor, shots: NDArray[np.int64]) -> Tensor:
    """Return the changes from frame to frame within shots, as rows to find a basis with besides.

    What moves in a shot that stands still is little beside the picture, and would be left out; so
    the stiller a shot, the more its changes count.

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
    rows: Tensor, count: int, *, weights: Tensor | None = None, besides: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the principal components of frames, and of what they could show besides.

    By way of the rows' products with one another, for there are fewer rows than bins.

    Args:
        rows: ``[frames, bins]``.
        count: How many components to find.
        weights: How much each frame counts, ``[frames]``, adding up to 1; alike, where none.
        besides: Rows ``[R, bins]`` whose squares add up to variance that is added to the frames'.

    Returns:
        The mean ``[bins]``; the components as rows ``[count, bins]``, strongest first, as long as
        coordinates along them vary; zeros where there are fewer.
    """
    if weights is None:
        weights = torch.full((len(rows),), 1 / len(rows))
    mean = weights @ rows
    known = weights.sqrt()[:, None] * (rows - mean)
    if besides is not None:
        known = torch.cat([known, besides])
    strengths, mixtures = torch.linalg.eigh(known @ known.T)
    found = int((strengths > 1e-6 * strengths[-1].clamp(min=1e-9)).sum())
    directions = torch.zeros(count, rows.shape[1])
    kept = min(count, found)
    directions[:kept] = mixtures.flip(1)[:, :kept].T @ known
    return mean, directions


def _left_over(rows: Tensor, packed: Packed) -> Tensor:
    """Return the mean square ``[bins]`` of what a basis, as packed, leaves of rows without mean."""
    basis = PackedBases([packed], rows.shape[1], COORDINATES)(0)
    inner = basis.T @ basis + 1e-6 * torch.eye(COORDINATES)
    coordinates = torch.linalg.solve(inner, basis.T @ rows.T)
    left: Tensor = (rows - (basis @ coordinates).T).square().mean(0)
    return left


def spherical_code(count: int) -> Tensor:
    """Return points on the unit sphere that keep apart, float32 ``[count, KEY_SIZE]``.

    They repel one another from fixed places, so that the same count has the same keys.
    """
    generator = torch.Generator().manual_seed(200)
    points = torch.randn(count, KEY_SIZE, generator=generator, dtype=torch.float64)
    for step in range(_REPULSIONS):
        done = step / _REPULSIONS
        points = points / points.norm(dim=1, keepdim=True)
        apart = points[:, None] - points[None]
        # Far ones find their places first, then the nearest part.
        nearness = (-(4.0 + 12.0 * done) * apart.square().sum(2)).exp()
        points = points + 2.0 * (1 - done) * (nearness[:, :, None] * apart).sum(1)
    keys: Tensor = (points / points.norm(dim=1, keepdim=True)).float()
    return keys


def pictures_of(
    data: FrameDataset, indices: NDArray[np.int64], on_frames: OnFrames
) -> Iterator[Tensor]:
    """Give frames as pictures, float32 ``[N, 3, 144, 256]`` from 0 to 1, in batches."""
    for first in range(0, len(indices), _BATCH):
        frames = data.frames(indices[first : first + _BATCH])
        yield to_pictures(torch.from_numpy(frames))
        on_frames(len(frames))
