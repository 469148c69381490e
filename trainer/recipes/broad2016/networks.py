"""The three networks of `broad2016`, as published, and the two modules that are served.

Every convolution is 5x5 with stride 2, so four of them take 256x144 to 16x9; batch normalisation
follows each but the outermost. Pictures run from -1 to 1.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from trainer.export import LATENT_SIZE, Whitening, to_frames, to_pictures

Channels = tuple[int, int, int, int]
"""Feature maps after each convolution, from the picture inwards."""

PUBLISHED_CHANNELS: Channels = (80, 160, 320, 640)

_GRID = (9, 16)
"""Height and width of the innermost feature maps: 144 and 256, halved four times."""


def _shrink(inner: int, outer: int) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, kernel_size=5, stride=2, padding=2)


def _grow(inner: int, outer: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inner, outer, kernel_size=5, stride=2, padding=2, output_padding=1)


class _Levels(nn.Module):
    """Four convolutions; encoder and discriminator each own one."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        a, b, c, d = channels
        leak = 0.2
        self.level0 = nn.Sequential(_shrink(3, a), nn.LeakyReLU(leak))
        self.level1 = nn.Sequential(_shrink(a, b), nn.BatchNorm2d(b), nn.LeakyReLU(leak))
        self.level2 = nn.Sequential(_shrink(b, c), nn.BatchNorm2d(c), nn.LeakyReLU(leak))
        self.level3 = nn.Sequential(_shrink(c, d), nn.BatchNorm2d(d), nn.LeakyReLU(leak))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        level0 = self.level0(pictures)
        level1 = self.level1(level0)
        level2 = self.level2(level1)
        return level0, level1, level2, self.level3(level2)


class Encoder(nn.Module):
    """Pictures [N, 3, 144, 256] -> the posterior's mean and log variance, each [N, 200]."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.levels = _Levels(channels)
        inside = channels[-1] * _GRID[0] * _GRID[1]
        self.mean = nn.Linear(inside, LATENT_SIZE)
        self.log_variance = nn.Linear(inside, LATENT_SIZE)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean, within -1 to 1, and the log variance, within -0.5 to 0.5."""
        inside = self.levels(pictures)[3].flatten(1)
        return torch.tanh(self.mean(inside)), 0.5 * torch.tanh(self.log_variance(inside))


class Decoder(nn.Module):
    """Latents [N, 200] -> pictures [N, 3, 144, 256]."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        a, b, c, d = channels
        self.inside = nn.Linear(LATENT_SIZE, d * _GRID[0] * _GRID[1])
        self.unfold = nn.Unflatten(1, (d, *_GRID))
        self.levels = nn.Sequential(
            nn.BatchNorm2d(d),
            nn.ReLU(),
            _grow(d, c),
            nn.BatchNorm2d(c),
            nn.ReLU(),
            _grow(c, b),
            nn.BatchNorm2d(b),
            nn.ReLU(),
            _grow(b, a),
            nn.BatchNorm2d(a),
            nn.ReLU(),
            _grow(a, 3),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Return the pictures."""
        pictures: Tensor = self.levels(self.unfold(self.inside(latents)))
        return pictures


class Discriminator(nn.Module):
    """Pictures [N, 3, 144, 256] -> real or not (a logit, [N, 1]) and features at four levels."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.levels = _Levels(channels)
        self.real = nn.Linear(channels[-1] * _GRID[0] * _GRID[1], 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Return the logits and the feature maps of the four levels."""
        features = self.levels(pictures)
        return self.real(features[3].flatten(1)), features


def initialise(network: nn.Module) -> None:
    """Initialise a network's weights as published; its batch norms have no statistics yet.

    In training they use each batch's own statistics, as in the paper. The statistics for inference
    are measured once by `fix_statistics`: running averages would include the pictures that the
    decoder makes from the prior, which look nothing like the film.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
            module.momentum = None  # a cumulative mean
            module.track_running_stats = False
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
            nn.init.zeros_(cast(Tensor, module.bias))


@torch.no_grad()
def fix_statistics(network: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Measure every batch norm's statistics over some batches, and switch to evaluation mode.

    From then on the output for an input depends on that input alone.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = True
        norm.reset_running_stats()
    network.train()
    for batch in inputs:
        network(batch)
    for norm in norms:
        norm.track_running_stats = False
    network.eval()


def from_frames(frames: Tensor) -> Tensor:
    """Turn uint8 [N, 144, 256, 3] into float32 [N, 3, 144, 256] from -1 to 1."""
    return to_pictures(frames) * 2.0 - 1.0


class ServedEncoder(nn.Module):
    """Frames -> (latent, embedding), see `trainer.export`; the latent is the tanh mean."""

    def __init__(self, encoder: Encoder, whitening: Whitening) -> None:
        super().__init__()
        # Without the variance head, which only training uses: 74 MB at the published size.
        self.levels, self.mean = encoder.levels, encoder.mean
        self.whitening = whitening

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents and embeddings."""
        inside = self.levels(from_frames(frames))[3].flatten(1)
        latents = torch.tanh(self.mean(inside))
        return latents, self.whitening(latents)


class ServedDecoder(nn.Module):
    """Latents -> (frames, embedding), see `trainer.export`."""

    def __init__(self, decoder: Decoder, whitening: Whitening) -> None:
        super().__init__()
        self.decoder = decoder
        self.whitening = whitening

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames and embeddings."""
        return to_frames(self.pictures(latents)), self.whitening(latents)

    @torch.jit.export
    def pictures(self, latents: Tensor) -> Tensor:
        """Return unrounded pictures, float32 [N, 3, 144, 256], about 0 to 1."""
        pictures: Tensor = (self.decoder(latents) + 1.0) / 2.0
        return pictures
