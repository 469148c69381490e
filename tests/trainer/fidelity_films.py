"""Films for the tests of `fidelity` that need no video: scenes drawn from a few hundred cosines."""

import argparse
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.dataset import PreparedFilm, Shot
from trainer.recipes.fidelity import recipe as fidelity
from trainer.recipes.fidelity.memory import Memory, MemorySize, fit_memory
from trainer.recipes.fidelity.sizes import Size

STRETCH = 100
SIZE = Size(
    memory=MemorySize(bases=3, bins=400, seen=200, bytes=60_000, changes=4.0),
    unseen=MemorySize(bases=3, bins=400, seen=200, bytes=60_000),
    channels=8,
    blocks=1,
)


class FilmInMemory:
    """What recipes ask of a data set; counts how many frames were asked for at once."""

    def __init__(
        self, frames: NDArray[np.uint8], held_out: tuple[int, ...] = (), cuts: tuple[int, ...] = ()
    ) -> None:
        self._frames = frames
        ends = (*cuts, len(frames))
        self.shots = tuple(
            Shot(0, first, stop) for first, stop in zip((0, *cuts), ends, strict=True)
        )
        self.held_out = np.array(held_out, np.int64)
        self.fitted = np.setdiff1d(np.arange(len(frames)), self.held_out)
        self.digest = "sha256:film"
        self.sampling = "all"
        self.films: tuple[PreparedFilm, ...] = ()
        self.asked: list[int] = []
        self.most_at_once = 0

    def frames(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.asked.extend(indices.tolist())
        self.most_at_once = max(self.most_at_once, len(indices))
        return self._frames[indices]

    def everything(self) -> Tensor:
        return torch.from_numpy(self._frames)


def scenes(*lengths: int, directions: int | None = None) -> NDArray[np.uint8]:
    """Scenes of so many frames, each with a mean of its own; no frame is a mixture of others.

    Or frames are mixtures of as many directions as said, each scene's own. The first three frames
    are black.
    """
    generator = torch.Generator().manual_seed(5)
    down = torch.cos(torch.pi / 144 * (torch.arange(144) + 0.5) * torch.arange(8)[:, None])
    across = torch.cos(torch.pi / 256 * (torch.arange(256) + 0.5) * torch.arange(12)[:, None])
    sizes = 1 / (1 + torch.arange(8)[:, None] + torch.arange(12))
    made = []
    for length in lengths:
        mean = 1.5 * torch.randn(1, 3, 8, 12, generator=generator)
        if directions is None:
            varied = torch.randn(length, 3, 8, 12, generator=generator)
        else:
            shapes = torch.randn(directions, 288, generator=generator) / directions**0.5
            mixtures = torch.randn(length, directions, generator=generator)
            varied = (mixtures @ shapes).view(length, 3, 8, 12)
        weights = (mean + varied) * sizes
        made.append(0.5 + 0.08 * down.T @ weights @ across)
    frames = (torch.cat(made) * 255).round().clamp(0, 255).to(torch.uint8)
    frames = frames.permute(0, 2, 3, 1).contiguous()
    frames[:3] = 0
    return frames.numpy()


@cache
def film() -> FilmInMemory:
    """Three scenes, each as long as a segment."""
    return FilmInMemory(scenes(STRETCH, STRETCH, STRETCH))


@cache
def memory() -> Memory:
    """What is remembered of `film`."""
    return fit_memory(film(), SIZE.memory, lambda count: None)  # type: ignore[arg-type]


def train(run: Path, *arguments: str) -> None:
    """Train, on whatever data tests say that there is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fit", default="all")
    fidelity.add_arguments(parser)
    options = parser.parse_args([*arguments, "--device", "cpu", "--batch", "2"])
    options.data, options.run = Path("data"), run
    fidelity.train(options)


def psnr(ours: Tensor, truth: Tensor) -> float:
    """Return the mean PSNR in dB of uint8 frames."""
    error = (ours.float() - truth.float()).square().mean((1, 2, 3)).clamp(min=1e-3)
    return float((20 * torch.log10(torch.tensor(255.0)) - 10 * error.log10()).mean())
