import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.recipes.fidelity.packing import (
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    Packed,
    PackedBases,
    pack,
)

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 4))


def basis(high: int, wide: int, seed: int = 0) -> Tensor:
    """Numbers that get smaller down and across, as a basis's do, in so many blocks."""
    rows, columns = high * BLOCK_ROWS, wide * BLOCK_COLUMNS
    generator = torch.Generator().manual_seed(seed)
    sizes = 1 / ((1 + torch.arange(rows))[:, None] * (1 + torch.arange(columns)) ** 0.5)
    return torch.randn(rows, columns, generator=generator) * sizes


def weight(packed: Packed) -> int:
    parts = (packed.bytes8, packed.steps8, packed.nibbles4, packed.steps4)
    return sum(part.numel() * part.element_size() for part in parts)


def unpacked(*packed: Packed, shape: torch.Size) -> list[Tensor]:
    bases = PackedBases(packed, *shape)
    return [bases(number) for number in range(len(packed))]


def error(truth: Tensor, size: float) -> float:
    (found,) = unpacked(pack(truth, size), shape=truth.shape)
    return float((found - truth).square().sum() / truth.square().sum())


@given(SHAPES, st.floats(0, 1.5), st.integers(0, 99), st.sampled_from([1e-3, 1.0, 1e3]))
@settings(max_examples=60, deadline=None)
def test_a_basis_fits_the_bytes_it_is_given(
    shape: tuple[int, int], share: float, seed: int, scale: float
) -> None:
    truth = scale * basis(*shape, seed)
    size = share * truth.numel()
    packed = pack(truth, size)
    assert weight(packed) <= size
    (found,) = unpacked(packed, shape=truth.shape)
    assert found.shape == truth.shape and found.dtype == torch.float32
    # Nothing comes back worse than if it had been left out.
    assert (found - truth).square().sum() <= truth.square().sum() * (1 + 1e-6)


@given(SHAPES, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_more_bytes_are_never_worse(shape: tuple[int, int], seed: int) -> None:
    truth = basis(*shape, seed)
    errors = [error(truth, share * truth.numel()) for share in (0, 0.25, 0.5, 0.75, 1.1)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == 1 and errors[-1] < 1e-3


def test_the_bytes_go_where_they_count() -> None:
    truth = basis(5, 4)
    # Two bits a number, of which there are only none, four or eight.
    assert error(truth, truth.numel() / 4) < 0.02


def test_no_bytes_leave_nothing() -> None:
    truth = basis(3, 2)
    (found,) = unpacked(pack(truth, 0), shape=truth.shape)
    assert torch.equal(found, torch.zeros_like(truth))


def test_several_bases_come_back_each_as_itself() -> None:
    bases = [basis(3, 2, 1), torch.zeros(60, 28), 5 * basis(3, 2, 2), basis(3, 2, 3)]
    packed = [pack(each, size) for each, size in zip(bases, (900, 900, 2000, 0), strict=True)]
    together = unpacked(*packed, shape=bases[0].shape)
    for each, found in zip(packed, together, strict=True):
        assert torch.equal(found, unpacked(each, shape=bases[0].shape)[0])
    assert (together[2] - bases[2]).norm() < 0.02 * bases[2].norm()
    assert not together[1].any() and not together[3].any()


def test_numbers_of_eight_bits_come_back_within_half_a_step() -> None:
    # Even numbers, none of which stands out: there is nothing to gain by clipping.
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(2 * BLOCK_ROWS, 3 * BLOCK_COLUMNS, generator=generator) * 2 - 1
    packed = pack(truth, 2 * truth.numel())
    assert bool((packed.bits == 8).all())
    (found,) = unpacked(packed, shape=truth.shape)
    assert (found - truth).abs().max() <= float(packed.steps8.max()) * 0.501
    assert packed.steps8.max() < 1.01 / 127


def test_negative_and_extreme_levels_of_four_bits_come_back() -> None:
    levels = torch.arange(BLOCK_ROWS * BLOCK_COLUMNS).remainder(15) - 7.0
    truth = levels.view(BLOCK_ROWS, BLOCK_COLUMNS) / 4
    packed = pack(truth, truth.numel() / 2 + 2)
    assert bool((packed.bits == 4).all())
    assert torch.equal(unpacked(packed, shape=truth.shape)[0], truth)


@pytest.mark.parametrize("shape", [(21, 14), (20, 15), (19, 14)])
def test_what_is_not_made_of_whole_blocks_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{shape[0]} x {shape[1]} is not made of whole blocks"):
        pack(torch.zeros(shape), 1000)
