"""Random resized crops: pictures that a film could have shown."""

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_CROP = 0.5
"""Smallest crop, as a share of a picture's width and height."""


def random_crops(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw random crops, mirrored with probability 1/2.

    Args:
        count: How many.
        generator: Source of randomness; torch's default if None.

    Returns:
        Affine maps from the output to the picture, for `torch.nn.functional.affine_grid`,
        ``[count, 2, 3]``.
    """
    shares = 1 - (1 - MIN_CROP) * torch.rand(count, 1, generator=generator)
    places = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - shares)
    mirrored = torch.randint(2, (count, 1), generator=generator) * 2 - 1
    zeros = torch.zeros_like(shares)
    rows = [shares * mirrored, zeros, places[:, :1], zeros, shares, places[:, 1:]]
    return torch.cat(rows, 1).view(count, 2, 3)


def resize_crops(pictures: Tensor, crops: Tensor) -> Tensor:
    """Return one crop of each picture at the picture's size, ``[N, 3, 144, 256]``.

    Args:
        pictures: ``[N, 3, 144, 256]``, from 0 to 1.
        crops: As `random_crops` returns them, ``[N, 2, 3]``.
    """
    grid = F.affine_grid(crops.to(pictures.device), list(pictures.shape), align_corners=False)
    return F.grid_sample(
        pictures, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    ).clamp(0.0, 1.0)
