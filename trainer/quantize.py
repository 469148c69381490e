"""Latents in fewer bits: each of the 200 numbers snapped to even levels over its own range.

At 8 bits a frame's latent is 200 bytes. The ranges are facts of the film, like the model: 1,600
bytes once, not a frame.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.errors import TrainerError

MOST_BITS = 16


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Snaps latents to ``2**bits`` even levels for each number, both ends of its range included."""

    lowest: Tensor
    """Each number's lowest value, float32 ``[200]``."""
    highest: Tensor
    """Likewise its highest."""
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
        """Return each number's nearest level, float32 ``[N, 200]``; outside its range, the end."""
        lowest, highest = self.lowest.to(latents.device), self.highest.to(latents.device)
        levels = 2**self.bits - 1
        width = highest - lowest
        # A number that never changes has but one level.
        share = (latents - lowest) / torch.where(width > 0, width, 1.0)
        nearest = (share * levels).round().clamp(0, levels) / levels
        return torch.lerp(lowest, highest, nearest)


class Ranges:
    """The range of each number over a film's latents, batch after batch."""

    def __init__(self) -> None:
        self._lowest: Tensor | None = None
        self._highest: Tensor | None = None

    def update(self, latents: Tensor) -> None:
        """Widen the ranges by latents, float32 ``[N, 200]``."""
        if not len(latents):
            return
        lowest, highest = latents.amin(0), latents.amax(0)
        if self._lowest is not None and self._highest is not None:
            lowest = torch.minimum(lowest, self._lowest)
            highest = torch.maximum(highest, self._highest)
        self._lowest, self._highest = lowest, highest

    def quantizer(self, bits: int) -> Quantizer:
        """Return the quantizer of what was seen.

        Raises:
            TrainerError: Nothing was seen, or the bits are not between 1 and 16.
        """
        if not 1 <= bits <= MOST_BITS:
            raise TrainerError(f"Latents take 1 to {MOST_BITS} bits a number, not {bits}")
        if self._lowest is None or self._highest is None:
            raise TrainerError("There is no latent to take the ranges of")
        return Quantizer(self._lowest, self._highest, bits)
