"""Models that need no training: fixed random projections of the frame's 16 x 9 averages."""

import torch
from torch import Tensor, nn

from trainer.export import LATENT_SIZE, Whitening, to_frames, to_pictures

_AVERAGES = 3 * 9 * 16


class TinyEncoder(nn.Module):
    """A linear encoder; the same weights for the same seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weights: Tensor
        self.register_buffer("weights", _directions(seed))
        self.whiten = Whitening(torch.zeros(LATENT_SIZE), torch.eye(LATENT_SIZE))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        averages = nn.functional.avg_pool2d(to_pictures(frames) - 0.5, 16).flatten(1)
        latents = torch.matmul(averages, self.weights.t())
        return latents, self.whiten(latents)


class TinyDecoder(nn.Module):
    """The encoder's inverse, as far as 200 of 432 numbers go."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weights: Tensor
        self.register_buffer("weights", _directions(seed))
        self.whiten = Whitening(torch.zeros(LATENT_SIZE), torch.eye(LATENT_SIZE))

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        averages = torch.matmul(latents, self.weights).reshape(-1, 3, 9, 16)
        frames = to_frames(nn.functional.interpolate(averages, size=(144, 256)) + 0.5)
        return frames, self.whiten(latents)


def _directions(seed: int) -> Tensor:
    """200 orthonormal directions, [200, 432]; the first three are the mean of each channel."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(_AVERAGES, LATENT_SIZE, generator=generator, dtype=torch.float64)
    for channel in range(3):
        random[:, channel] = 0.0
        random[channel * 144 : (channel + 1) * 144, channel] = 1.0
    return torch.linalg.qr(random).Q.t().to(torch.float32).contiguous()
