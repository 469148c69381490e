"""Baselines besides video codecs: PCA-200 and DCT-200."""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from trainer.dataset import FrameDataset
from trainer.errors import RunError
from trainer.export import LATENT_SIZE, to_frames, to_pictures
from trainer.recipes import pca
from trainer.run import Fit, Run

_BATCH = 64

# RGB to luma and two colour differences, orthonormal.
_COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 2.0, -1.0))


def pca_run(data: FrameDataset, fit: Fit, folder: Path) -> Path:
    """Return a run of the recipe `pca` on a data set, trained if missing."""
    try:
        facts = Run(folder).facts()
        trained_on = facts["data"]
        if isinstance(trained_on, dict) and trained_on["digest"] == data.digest:
            return folder
    except RunError:
        pass
    pca.train(argparse.Namespace(data=data.folder, run=folder, fit=fit))
    return folder


@dataclass(frozen=True, slots=True)
class Bins:
    """The 200 DCT bins that vary most over a data set's fitted frames, and the frames' mean.

    The transform is the orthonormal DCT of whole pictures, after an orthonormal one of colours.
    """

    mean: Tensor
    """Picture between 0 and 1, ``[3 * 144 * 256]``."""
    chosen: Tensor
    """Places among the bins ``[3 * 144 * 256]`` of the transform, ``[200]``."""

    @property
    def digest(self) -> str:
        """Return the digest of the fitted bins."""
        content = self.mean.numpy().tobytes() + self.chosen.numpy().tobytes()
        return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Dct:
    """Keeps 200 DCT bins of a frame; all others are the mean's."""

    def __init__(self, bins: Bins) -> None:
        colours, rows, columns = _transform()
        shape = (3, MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH)
        colour, row, column = torch.unravel_index(bins.chosen, shape)
        patterns = torch.einsum("kc,ky,kx->kcyx", colours[colour], rows[row], columns[column])
        self._mean, self._patterns = bins.mean, patterns.reshape(LATENT_SIZE, -1)

    def encode(self, frames: Tensor) -> Tensor:
        """Return the coordinates ``[N, 200]`` of uint8 frames ``[N, 144, 256, 3]``."""
        return (to_pictures(frames).flatten(1) - self._mean) @ self._patterns.T

    def decode(self, latents: Tensor) -> Tensor:
        """Return uint8 frames ``[N, 144, 256, 3]``."""
        pictures = latents @ self._patterns + self._mean
        return to_frames(pictures.view(-1, 3, MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH))


def choose_bins(data: FrameDataset) -> Bins:
    """Choose the bins by one pass over a data set's fitted frames."""
    colours, rows, columns = _transform()
    total = torch.zeros(3, MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, dtype=torch.float64)
    squares, picture = torch.zeros_like(total), torch.zeros_like(total)
    count = len(data.fitted)
    for first in range(0, count, _BATCH):
        pictures = to_pictures(torch.from_numpy(data.frames(data.fitted[first : first + _BATCH])))
        bins = rows @ torch.einsum("kc,ncyx->nkyx", colours, pictures) @ columns.T
        total += bins.sum(0)
        squares += bins.square().sum(0)
        picture += pictures.sum(0)
    variances = squares / count - (total / count).square()
    chosen = variances.flatten().argsort(descending=True)[:LATENT_SIZE]
    return Bins((picture / count).float().flatten(), chosen)


def _transform() -> tuple[Tensor, Tensor, Tensor]:
    """Return the orthonormal transforms of colours, columns of pixels, and rows of pixels."""
    colours = torch.nn.functional.normalize(torch.tensor(_COLOURS), dim=1)
    return colours, _dct(MODEL_FRAME_HEIGHT), _dct(MODEL_FRAME_WIDTH)


def _dct(size: int) -> Tensor:
    """Return the orthonormal DCT-II as a matrix, a row a frequency."""
    place = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(torch.pi / size * (place[None] + 0.5) * place[:, None]) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    result: Tensor = matrix.float()
    return result
