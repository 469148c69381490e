"""Uniform quantization of latents: each of the 200 numbers over its own range.

At 8 bits a frame's latent is 200 bytes. The ranges are stored once a film: 1,600 bytes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.errors import TrainerError

MAX_BITS = 16


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Rounds each number to ``2**bits`` even levels, both ends of its range included."""

    lowest: Tensor
    """Each number's minimum, float32 ``[200]``."""
    highest: Tensor
    """Each number's maximum, float32 ``[200]``."""
    bits: int

    @staticmethod
    def fit(latents: Tensor, bits: int) -> "Quantizer":
        """Take the ranges of latents, float32 ``[N, 200]``.

        Raises:
            TrainerError: There is no latent, or the bits are not between 1 and 16.
        """
        ranges = Ranges()
        ranges.update(latents)
        return ranges.quantizer(bits)

    def __call__(self, latents: Tensor) -> Tensor:
        """Return each number's nearest level, float32 ``[N, 200]``; clipped to its range."""
        lowest, highest = self.lowest.to(latents.device), self.highest.to(latents.device)
        levels = 2**self.bits - 1
        width = highest - lowest
        # A number that never changes has a single level.
        share = (latents - lowest) / torch.where(width > 0, width, 1.0)
        nearest = (share * levels).round().clamp(0, levels) / levels
        return torch.lerp(lowest, highest, nearest)


class Ranges:
    """The range of each number over a film's latents, updated by batches."""

    def __init__(self) -> None:
        self._lowest: Tensor | None = None
        self._highest: Tensor | None = None

    def update(self, latents: Tensor) -> None:
        """Extend the ranges to include latents, float32 ``[N, 200]``."""
        if not len(latents):
            return
        lowest, highest = latents.amin(0), latents.amax(0)
        if self._lowest is not None and self._highest is not None:
            lowest = torch.minimum(lowest, self._lowest)
            highest = torch.maximum(highest, self._highest)
        self._lowest, self._highest = lowest, highest

    def quantizer(self, bits: int) -> Quantizer:
        """Return a quantizer for these ranges.

        Raises:
            TrainerError: There were no latents, or the bits are not between 1 and 16.
        """
        if not 1 <= bits <= MAX_BITS:
            raise TrainerError(f"Latents take 1 to {MAX_BITS} bits a number, not {bits}")
        if self._lowest is None or self._highest is None:
            raise TrainerError("There is no latent to take the ranges of")
        return Quantizer(self._lowest, self._highest, bits)
