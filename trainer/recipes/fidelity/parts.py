"""Cuts parts out of pictures and enlarges them: pictures that a film could show and did not."""

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_PART = 0.5
"""Of a picture's width and height."""


def choose_parts(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Choose parts by chance, every other one mirrored.

    Args:
        count: How many.
        generator: What chance comes from; torch's own where none is given.

    Returns:
        For each the map ``[2, 3]`` from places in what is made to places in the picture, as
        `torch.nn.functional.affine_grid` wants it: ``[count, 2, 3]``.
    """
    shares = 1 - (1 - LEAST_PART) * torch.rand(count, 1, generator=generator)
    places = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - shares)
    mirrored = torch.randint(2, (count, 1), generator=generator) * 2 - 1
    zeros = torch.zeros_like(shares)
    rows = [shares * mirrored, zeros, places[:, :1], zeros, shares, places[:, 1:]]
    return torch.cat(rows, 1).view(count, 2, 3)


def enlarge(pictures: Tensor, parts: Tensor) -> Tensor:
    """Return one part of each picture, as large as the picture: ``[N, 3, 144, 256]``.

    Args:
        pictures: ``[N, 3, 144, 256]``, from 0 to 1.
        parts: As `choose_parts` returns them, ``[N, 2, 3]``.
    """
    grid = F.affine_grid(parts.to(pictures.device), list(pictures.shape), align_corners=False)
    return F.grid_sample(
        pictures, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    ).clamp(0.0, 1.0)
