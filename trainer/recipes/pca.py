"""`pca`: 200 principal components of a film's frames; the baseline for all other recipes.

    python -m trainer train --recipe pca --data data/film --run runs/film

The latent is a frame's coordinates along the 200 directions in which the film's frames vary most.
No other linear map keeps more of the pixels' variance.

The frames are never in memory together. An exact analysis of a few hundred of them, evenly spread,
gives an initial basis. Two passes over all frames then improve it, each multiplying the basis by
the frames' covariance and taking a Nyström approximation of that covariance; the squared error is
then within 2 % of the optimum.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from trainer.counter import Counter
from trainer.dataset import FrameDataset
from trainer.embedding import REFERENCE_FRAMES, fit_whitening
from trainer.errors import DatasetError
from trainer.export import LATENT_SIZE, Whitening, to_frames
from trainer.run import Run, fitted_data
from trainer.sampler import spread

_PIXELS = MODEL_FRAME_HEIGHT * MODEL_FRAME_WIDTH * 3
_SAMPLE = 768
_PASSES = 2
# Oversampling: extra directions, so that the last of the 200 converge as well.
_SPARE = 56
_BATCH = 128
# Variance below this share of the largest is rounding error.
_MIN_SHARE = 1e-9

OnFrames = Callable[[int], None]
"""Called with the number of frames just processed."""


class Components:
    """Mean ``[pixels]``, directions ``[pixels, 200]`` and variances ``[200]`` of a film's frames.

    Directions without variance are zero. `whitening` turns coordinates into embeddings.
    """

    whitening: Whitening

    def __init__(self, mean: Tensor, directions: Tensor, variances: Tensor) -> None:
        self.mean = mean
        self.directions = torch.zeros(len(mean), LATENT_SIZE)
        self.variances = torch.zeros(LATENT_SIZE)
        count = min(LATENT_SIZE, directions.shape[1])
        found = variances[:count] > _MIN_SHARE * variances.max().clamp(min=1e-12)
        self.directions[:, :count] = directions[:, :count] * found
        self.variances[:count] = variances[:count] * found

    def latents(self, frames: Tensor) -> Tensor:
        """Return the coordinates ``[N, 200]`` of uint8 frames ``[N, 144, 256, 3]``."""
        return (_pixels(frames) - self.mean) @ self.directions


def _pixels(frames: Tensor) -> Tensor:
    return frames.flatten(1).to(torch.float32) / 255.0


class PcaEncoder(nn.Module):
    """Frames to coordinates along the directions."""

    def __init__(self, components: Components) -> None:
        super().__init__()
        self.mean: Tensor
        self.directions: Tensor
        self.register_buffer("mean", components.mean)
        self.register_buffer("directions", components.directions)
        self.whitening = components.whitening

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode uint8 frames ``[N, 144, 256, 3]`` to latents and embeddings ``[N, 200]``."""
        latents = (_pixels(frames) - self.mean) @ self.directions
        return latents, self.whitening(latents)


class PcaDecoder(nn.Module):
    """Coordinates along the directions to frames, and to embeddings."""

    def __init__(self, components: Components) -> None:
        super().__init__()
        self.mean: Tensor
        self.directions: Tensor
        self.register_buffer("mean", components.mean)
        self.register_buffer("directions", components.directions.T.contiguous())
        self.whitening = components.whitening

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Decode latents ``[N, 200]`` to uint8 frames ``[N, 144, 256, 3]`` and embeddings."""
        return to_frames(self.pictures(latents)), self.whitening(latents)

    @torch.jit.export
    def pictures(self, latents: Tensor) -> Tensor:
        """Return unrounded pictures, float32 ``[N, 3, 144, 256]``, about 0 to 1."""
        pixels = latents @ self.directions + self.mean
        return pixels.view(-1, 144, 256, 3).permute(0, 3, 1, 2)


def find_components(data: FrameDataset, on_frames: OnFrames) -> Components:
    """Find the principal components of a data set's fitted frames, and fit their whitening.

    Raises:
        DatasetError: There is no frame to fit.
    """
    fitted = data.fitted
    if not len(fitted):
        raise DatasetError("There is no frame to fit: the data set is empty")
    sample = spread(fitted, _SAMPLE)
    mean, directions, variances = _of_sample(data, sample, on_frames)
    if len(sample) < len(fitted):
        for _ in range(_PASSES):
            mean, directions, variances = _pass(data, fitted, mean, directions, on_frames)
    components = Components(mean, directions, variances)
    reference = spread(fitted, REFERENCE_FRAMES)
    components.whitening = fit_whitening(components.latents, _frames(data, reference, on_frames))
    return components


def frames_to_read(fitted: int) -> int:
    """Return how many frames `find_components` reads, over all its passes."""
    passes = _PASSES * fitted if fitted > _SAMPLE else 0
    return min(_SAMPLE, fitted) + passes + min(REFERENCE_FRAMES, fitted)


def _of_sample(
    data: FrameDataset, sample: NDArray[np.int64], on_frames: OnFrames
) -> tuple[Tensor, Tensor, Tensor]:
    """Analyse a few hundred frames exactly, through their Gram matrix."""
    pixels = torch.cat(list(_batches(data, sample, on_frames)))
    mean = pixels.mean(0)
    pixels -= mean
    variances, mixtures = torch.linalg.eigh((pixels @ pixels.T).double())
    # Ascending. Of n centred frames at most n - 1 directions vary.
    order = torch.arange(len(sample) - 1, -1, -1)[: LATENT_SIZE + _SPARE]
    variances, mixtures = variances[order].clamp(min=0.0), mixtures[:, order]
    lengths = variances.sqrt().clamp(min=1e-6)
    directions = pixels.T @ (mixtures / lengths).float()
    return mean, directions, (variances / len(sample)).float()


def _pass(
    data: FrameDataset,
    indices: NDArray[np.int64],
    centre: Tensor,
    guess: Tensor,
    on_frames: OnFrames,
) -> tuple[Tensor, Tensor, Tensor]:
    """Improve the directions by one pass over all frames; return mean, directions and variances."""
    basis = torch.linalg.qr(guess).Q
    product = torch.zeros_like(basis)
    total = torch.zeros(_PIXELS, dtype=torch.float64)
    for pixels in _batches(data, indices, on_frames):
        pixels -= centre
        total += pixels.sum(0)
        product.addmm_(pixels.T, pixels @ basis)
    shift = (total / len(indices)).float()
    product = product / len(indices) - torch.outer(shift, shift @ basis)

    # Nyström: covariance ~ product (basis' product)^-1 product'.
    inner = (basis.T @ product).double()
    inner = (inner + inner.T) / 2
    weights, rotation = torch.linalg.eigh(inner)
    kept = weights > max(float(weights.max()), 1e-12) * _MIN_SHARE
    scaled = (rotation[:, kept] / weights[kept].sqrt()).float()
    factor = product @ scaled
    # The factor's squared singular values, from its small Gram matrix, are the variances.
    variances, mixtures = torch.linalg.eigh((factor.T @ factor).double())
    variances, mixtures = variances.flip(0).clamp(min=0.0), mixtures.flip(1)
    lengths = variances.sqrt().clamp(min=1e-9)
    return centre + shift, factor @ (mixtures / lengths).float(), variances.float()


def _batches(
    data: FrameDataset, indices: NDArray[np.int64], on_frames: OnFrames
) -> Iterator[Tensor]:
    """Read frames as rows of pixels between 0 and 1."""
    for frames in _frames(data, indices, on_frames):
        yield _pixels(frames)


def _frames(
    data: FrameDataset, indices: NDArray[np.int64], on_frames: OnFrames
) -> Iterator[Tensor]:
    for first in range(0, len(indices), _BATCH):
        frames = data.frames(indices[first : first + _BATCH])
        yield torch.from_numpy(frames)
        on_frames(len(frames))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: this recipe has no options."""


def train(options: argparse.Namespace) -> None:
    """Fit the components and write the run."""
    data = fitted_data(options.data, options.fit)
    run = Run(options.run)
    began = time.monotonic()
    with Counter("pca", frames_to_read(len(data.fitted))) as counter:
        components = find_components(data, counter.advance)
    run.finish(
        PcaEncoder(components),
        PcaDecoder(components),
        recipe="pca",
        settings={"fit": options.fit},
        data=data,
        training={"seconds": round(time.monotonic() - began, 1), "passes": _PASSES},
    )
