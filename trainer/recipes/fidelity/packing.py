"""Quantizes the bases of `fidelity`'s memory: blocks of 0, 4 or 8 bits a number.

A basis is a matrix with a row for each DCT bin and a column for each coordinate, its columns scaled
so that coordinates have unit variance: leaving out a number costs its square. Rows and columns are
ordered by variance, so the numbers of a block are of about one size and share one quantization
step. Bits are allocated to blocks by Lagrange multiplier (Shoham and Gersho, "Efficient bit
allocation for an arbitrary set of quantizers", 1988): each block takes the number of bits with the
least error plus price, and the price of a bit is set so that all blocks fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

BLOCK_ROWS = 20
BLOCK_COLUMNS = 14
_BLOCK = BLOCK_ROWS * BLOCK_COLUMNS

_BITS = (0, 4, 8)
# Steps relative to the one that fits the block's largest number; smaller ones clip it.
_CLIPPED = (1.0, 0.75, 0.55, 0.4, 0.28)
_SCALE_BITS = 16


@dataclass(frozen=True, slots=True)
class Packed:
    """One basis, packed."""

    bytes8: Tensor
    """Blocks of 8 bits a number, int8 ``[blocks, numbers]``."""
    steps8: Tensor
    """Their quantization steps, float16 ``[blocks, 1]``."""
    nibbles4: Tensor
    """Blocks of 4 bits a number, uint8 ``[blocks, numbers / 2]``: first halves low, others high."""
    steps4: Tensor
    """Their quantization steps, float16 ``[blocks, 1]``."""
    bits: Tensor
    """Bits of every block, in the order of the matrix, uint8 ``[1, all blocks]``."""


class PackedBases(nn.Module):
    """Bases ``[rows, columns]`` as blocks of 0, 4 or 8 bits, unpacked one at a time."""

    def __init__(self, bases: Sequence["Packed"], rows: int, columns: int) -> None:
        """Take packed bases of one shape."""
        super().__init__()
        self.rows, self.columns = rows, columns
        self.high, self.wide = BLOCK_ROWS, BLOCK_COLUMNS
        self.bytes8: Tensor
        self.steps8: Tensor
        self.nibbles4: Tensor
        self.steps4: Tensor
        self.bits: Tensor
        for name in Packed.__dataclass_fields__:
            self.register_buffer(name, torch.cat([getattr(basis, name) for basis in bases]))
        eights = [len(basis.bytes8) for basis in bases]
        fours = [len(basis.nibbles4) for basis in bases]
        self.starts8: list[int] = list(accumulate(eights, initial=0))
        self.starts4: list[int] = list(accumulate(fours, initial=0))

    def forward(self, number: int) -> Tensor:
        """Unpack a basis: float32 ``[rows, columns]``."""
        first8, end8 = self.starts8[number], self.starts8[number + 1]
        first4, end4 = self.starts4[number], self.starts4[number + 1]
        eights = self.bytes8[first8:end8].to(torch.float32) * self.steps8[first8:end8].float()
        pairs = self.nibbles4[first4:end4]
        halves = torch.cat([pairs & 15, pairs >> 4], 1)
        fours = (halves.to(torch.float32) - 8.0) * self.steps4[first4:end4].float()
        bits = self.bits[number]
        blocks = torch.zeros(bits.size(0), eights.size(1), device=bits.device)
        blocks[bits == 8] = eights
        blocks[bits == 4] = fours
        grid = blocks.view(-1, self.columns // self.wide, self.high, self.wide)
        return grid.permute(0, 2, 1, 3).reshape(self.rows, self.columns)


def pack(basis: Tensor, size: float) -> Packed:
    """Pack a basis, float32 ``[rows, columns]``, into at most `size` bytes.

    Raises:
        ValueError: Its shape is not a multiple of the block size.
    """
    rows, columns = basis.shape
    if rows % BLOCK_ROWS or columns % BLOCK_COLUMNS:
        raise ValueError(f"{rows} x {columns} is not made of whole blocks")
    blocks = _blocks(basis)
    choices = [_quantised(blocks, bits) for bits in _BITS]
    errors = torch.stack([(made - blocks).square().sum(1) for made, _, _ in choices])
    chosen = _allocate(errors, size)
    (_, levels4, steps4), (_, levels8, steps8) = choices[1:]
    fours, eights = chosen == 1, chosen == 2
    halves = (levels4[fours] + 8).to(torch.uint8)
    return Packed(
        bytes8=levels8[eights].to(torch.int8),
        steps8=steps8[eights].half(),
        nibbles4=halves[:, : _BLOCK // 2] | (halves[:, _BLOCK // 2 :] << 4),
        steps4=steps4[fours].half(),
        bits=torch.tensor(_BITS, dtype=torch.uint8)[chosen][None],
    )


def _blocks(basis: Tensor) -> Tensor:
    rows, columns = basis.shape
    grid = basis.view(rows // BLOCK_ROWS, BLOCK_ROWS, columns // BLOCK_COLUMNS, BLOCK_COLUMNS)
    return grid.permute(0, 2, 1, 3).reshape(-1, _BLOCK)


def _quantised(blocks: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the dequantized blocks, their levels and their steps ``[blocks, 1]``."""
    best, levels = torch.zeros_like(blocks), torch.zeros_like(blocks)
    steps = torch.zeros(len(blocks), 1)
    if not bits:
        return best, levels, steps
    top = 2 ** (bits - 1) - 1
    least = torch.full((len(blocks), 1), torch.inf)
    largest = blocks.abs().amax(1, keepdim=True)
    for clipped in _CLIPPED:
        # Rounded to half precision as stored, and never zero.
        step = (largest * clipped / top).clamp(min=1e-6).half().float()
        level = (blocks / step).round().clamp(-top, top)
        error = (level * step - blocks).square().sum(1, keepdim=True)
        better = error < least
        best = torch.where(better, level * step, best)
        levels = torch.where(better, level, levels)
        steps = torch.where(better, step, steps)
        least = torch.where(better, error, least)
    return best, levels, steps


def _allocate(errors: Tensor, size: float) -> Tensor:
    """Choose bits for each block, as an index into `_BITS`, for the least error that fits.

    Args:
        errors: ``[choices, blocks]``.
        size: bytes for all blocks together.
    """
    cost = torch.tensor([0.0] + [bits * _BLOCK + _SCALE_BITS for bits in _BITS[1:]])[:, None]
    cheap, dear = 1e-20, 1e6
    for _ in range(80):
        price = (cheap * dear) ** 0.5
        chosen = (errors + price * cost).argmin(0)
        if float(cost[chosen, 0].sum()) > 8 * size:
            cheap = price
        else:
            dear = price
    return (errors + dear * cost).argmin(0)
