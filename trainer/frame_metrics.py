"""Quality metrics of reconstructions, of single frames and over time.

- **PSNR** in dB over all pixels and colours, at most 60 (a frame without error has no finite PSNR);
- **SSIM** and **MS-SSIM** (see `trainer.ssim`), and **HaarPSI** (see `trainer.haarpsi`);
- **temporal error**: the mean absolute difference, in grey levels, between the change from the
  frame before in the film and in the reconstruction; and the **temporal correlation** of the two
  changes, 1 where the reconstruction moves as the film does, 0 where it stands still or flickers.
  Neither is measured across a cut.

`trainer.measures` collects them over a film.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.haarpsi import haarpsi
from trainer.ssim import ms_ssim, ssim

PSNR_CAP = 60.0
WORST_SHARE = 0.05
_AT_ONCE = 8
_BT709_LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True, slots=True)
class Change:
    """One frame's change from the frame before, compared with the source's."""

    error: float
    """Mean absolute difference of the two changes, grey levels."""
    product: float
    """Sum of the products of the two changes, over all pixels."""
    source_change: float
    """Mean absolute change of the source, grey levels."""
    source_energy: float
    """Sum of the squares of the source's change."""
    reconstruction_energy: float
    """Sum of the squares of the reconstruction's change."""


def psnr(source: Tensor, reconstruction: Tensor) -> Tensor:
    """Return the PSNR of uint8 frames ``[N, H, W, 3]`` in dB, ``[N]``, at most `PSNR_CAP`."""
    error = (source.float() - reconstruction.float()).square().mean((1, 2, 3))
    least = 255.0**2 / 10 ** (PSNR_CAP / 10)
    return 10 * torch.log10(255.0**2 / error.clamp(min=least))


def similarities(source: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return SSIM, MS-SSIM and HaarPSI of uint8 frames ``[N, H, W, 3]``, each ``[N]``."""
    # A few at a time stay in the CPU's caches: two thirds of the time of 32 at once.
    few = zip(torch.split(source, _AT_ONCE), torch.split(reconstruction, _AT_ONCE), strict=True)
    measured = [_similarities(*pictures) for pictures in few]
    ssims, ms_ssims, haarpsis = zip(*measured, strict=True)
    return torch.cat(ssims), torch.cat(ms_ssims), torch.cat(haarpsis)


def _similarities(source: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    truth = source.permute(0, 3, 1, 2).float().contiguous() / 255
    picture = reconstruction.permute(0, 3, 1, 2).float().contiguous() / 255
    return ssim(picture, truth), ms_ssim(picture, truth), haarpsi(picture, truth)


def brightness(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean luma (BT.709) and mean level of uint8 frames ``[N, H, W, 3]``, each ``[N]``.

    Both are grey levels, 0 to 255; the level is the mean of all colours alike.
    """
    colours = frames.float().mean((1, 2))
    return colours @ colours.new_tensor(_BT709_LUMA), colours.mean(1)


def change(before: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor]) -> Change:
    """Compare one frame's change.

    Args:
        before: Source and reconstruction of the frame before, uint8 ``[H, W, 3]``.
        now: Those of the frame itself.
    """
    in_source = now[0].float() - before[0].float()
    in_reconstruction = now[1].float() - before[1].float()
    return Change(
        error=float((in_reconstruction - in_source).abs().mean()),
        product=float((in_reconstruction * in_source).sum(dtype=torch.float64)),
        source_change=float(in_source.abs().mean()),
        source_energy=float(in_source.square().sum(dtype=torch.float64)),
        reconstruction_energy=float(in_reconstruction.square().sum(dtype=torch.float64)),
    )


def summary(values: NDArray[np.float64]) -> dict[str, float] | None:
    """Return the mean, and the mean of the worst (lowest) 5 %; None without any value."""
    known = np.sort(values[np.isfinite(values)])
    if not len(known):
        return None
    worst = known[: max(1, round(len(known) * WORST_SHARE))]
    return {"mean": float(known.mean()), "worst_5_percent": float(worst.mean())}


def temporal_summary(changes: Sequence[Change]) -> dict[str, float | None] | None:
    """Return the mean temporal error, and the correlation of all changes; None without any."""
    if not changes:
        return None
    return {
        "error": float(np.mean([each.error for each in changes])),
        "correlation": correlation(changes),
    }


def correlation(changes: Sequence[Change]) -> float | None:
    """Return the temporal correlation of all changes together; None if the source never changes."""
    in_source = sum(each.source_energy for each in changes)
    in_reconstruction = sum(each.reconstruction_energy for each in changes)
    if in_source == 0:
        return None
    if in_reconstruction == 0:
        return 0.0
    product = sum(each.product for each in changes)
    return float(product / np.sqrt(in_source * in_reconstruction))
