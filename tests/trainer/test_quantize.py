import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainer.errors import TrainerError
from trainer.quantize import Quantizer, Ranges

films = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.just(5)),
    elements=st.floats(-1000, 1000, width=32),
).map(torch.from_numpy)
bits = st.integers(1, 16)


@given(films, bits)
def test_every_number_moves_half_a_step_at_most_and_stays_in_its_range(
    latents: torch.Tensor, bits: int
) -> None:
    snapped = Quantizer.fit(latents, bits)(latents)
    lowest, highest = latents.amin(0), latents.amax(0)
    half_step = (highest - lowest) / (2**bits - 1) / 2
    assert snapped.dtype == torch.float32
    assert bool(((snapped - latents).abs() <= half_step + 2e-4).all())
    assert bool((snapped >= lowest).all()) and bool((snapped <= highest).all())
    # The ends are levels, so nothing of a number's range is lost.
    assert torch.equal(snapped.amin(0), lowest) and torch.equal(snapped.amax(0), highest)


@given(films, st.integers(1, 3))
def test_no_number_takes_more_levels_than_its_bits_say(latents: torch.Tensor, bits: int) -> None:
    between = torch.lerp(latents[:1], latents[-1:], torch.linspace(-1, 2, 100)[:, None])
    snapped = Quantizer.fit(latents, bits)(torch.cat([latents, between]))
    assert all(len(number.unique()) <= 2**bits for number in snapped.T)


@given(films, bits)
def test_quantizing_twice_changes_nothing(latents: torch.Tensor, bits: int) -> None:
    quantizer = Quantizer.fit(latents, bits)
    snapped = quantizer(latents)
    # Levels closer together than float32 can tell may move by its last place.
    assert torch.allclose(quantizer(snapped), snapped, rtol=3e-7, atol=0)


@given(films, st.integers(1, 9), bits)
def test_a_film_in_batches_has_the_ranges_of_the_whole(
    latents: torch.Tensor, batch: int, bits: int
) -> None:
    ranges = Ranges()
    for part in latents.split(batch):
        ranges.update(part)
    assert torch.equal(ranges.quantizer(bits)(latents), Quantizer.fit(latents, bits)(latents))


def test_two_bits_are_four_even_levels_of_each_number_of_its_own() -> None:
    film = torch.tensor([[0.0, -1.0, 7.0], [3.0, 5.0, 7.0]])
    quantizer = Quantizer.fit(film, bits=2)
    asked = torch.tensor([[0.4, 0.1, 7.0], [1.6, 2.9, 9.0], [-8.0, 99.0, -9.0]])
    expected = torch.tensor([[0.0, 1.0, 7.0], [2.0, 3.0, 7.0], [0.0, 5.0, 7.0]])
    assert torch.allclose(quantizer(asked), expected)


@pytest.mark.parametrize("bits", [0, 17, -8])
def test_other_bits_are_refused(bits: int) -> None:
    with pytest.raises(TrainerError, match=f"1 to 16 bits a number, not {bits}"):
        Quantizer.fit(torch.zeros(2, 200), bits)


def test_a_film_without_frames_has_no_ranges() -> None:
    with pytest.raises(TrainerError, match="no latent"):
        Quantizer.fit(torch.zeros(0, 200), 8)
