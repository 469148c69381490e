from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainer.fidelity_films import (
    SIZE,
    STRETCH,
    FilmInMemory,
    film,
    memory,
    psnr,
    scenes,
)
from trainer.errors import DatasetError
from trainer.export import Whitening, to_frames, to_pictures
from trainer.quantize import Quantizer
from trainer.recipes import pca
from trainer.recipes.fidelity import memory as fidelity_memory
from trainer.recipes.fidelity.memory import (
    Memory,
    MemorySize,
    fit_memory,
    frames_to_read,
    spherical_code,
)
from trainer.recipes.fidelity.networks import (
    COMMON_BINS,
    KEY_SIZE,
    Refinement,
    ServedDecoder,
    ServedEncoder,
    Spectrum,
)
from trainer.recipes.fidelity.packing import BLOCK_COLUMNS, BLOCK_ROWS
from trainer.recipes.fidelity.sizes import SIZES, Size
from trainer.recipes.pca import PcaDecoder, PcaEncoder, find_components

pytestmark = pytest.mark.slow

torch.set_num_threads(1)


def fitted(data: FilmInMemory) -> Memory:
    return fit_memory(data, SIZE.memory, lambda count: None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def latents() -> Tensor:
    with torch.inference_mode():
        return memory().encoder()(to_pictures(film().everything())).clone()


@pytest.fixture(scope="module")
def remembered(latents: Tensor) -> Tensor:
    with torch.inference_mode():
        return to_frames(memory().decoder()(latents)).clone()


def test_a_spectrum_of_all_bins_is_the_picture() -> None:
    pictures = torch.rand(2, 3, 144, 256, generator=torch.Generator().manual_seed(0))
    spectrum = Spectrum(torch.randperm(3 * 144 * 256, generator=torch.Generator().manual_seed(1)))
    bins = spectrum(pictures)
    torch.testing.assert_close(spectrum.pictures(bins), pictures, atol=1e-5, rtol=0)
    torch.testing.assert_close(bins.square().sum(1), pictures.square().sum((1, 2, 3)))
    assert not torch.equal(bins, pictures.flatten(1))


def test_an_error_in_some_bins_is_the_same_error_in_the_pixels() -> None:
    generator = torch.Generator().manual_seed(2)
    spectrum = Spectrum(torch.randperm(3 * 144 * 256, generator=generator)[:500])
    one, other = torch.randn(2, 4, 500, generator=generator)
    pictures = spectrum.pictures(one) - spectrum.pictures(other)
    torch.testing.assert_close(pictures.square().sum((1, 2, 3)), (one - other).square().sum(1))
    torch.testing.assert_close(spectrum(spectrum.pictures(one)), one, atol=1e-4, rtol=0)


def test_scenes_come_back_better_than_from_one_basis(
    remembered: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pca, "REFERENCE_FRAMES", 2)  # embeddings are not looked at
    components = find_components(film(), lambda count: None)  # type: ignore[arg-type]
    frames = film().everything()
    with torch.inference_mode():
        floor = psnr(PcaDecoder(components)(PcaEncoder(components)(frames)[0])[0], frames)
    assert psnr(remembered, frames) > floor + 2


def test_a_black_frame_is_reconstructed_black(remembered: Tensor) -> None:
    assert remembered[:3].float().mean((1, 2, 3)).max() < 2


def test_frames_are_encoded_in_their_own_stretch(latents: Tensor) -> None:
    distances = torch.cdist(latents[:, :KEY_SIZE], memory().keys)
    assert distances.min(1).values.max() < 1e-5
    own = torch.arange(len(latents)) // STRETCH
    assert (distances.argmin(1) == own).float().mean() > 0.95


def test_a_shot_has_one_basis_where_cuts_are_near_the_even_ends() -> None:
    lengths = (80, 110, 110)
    cut = FilmInMemory(scenes(*lengths), cuts=(80, 190))
    with torch.inference_mode():
        keys = fitted(cut).encoder()(to_pictures(cut.everything()))[:, :KEY_SIZE]
        uncut = fitted(FilmInMemory(cut.everything().numpy())).encoder()
        mixed = uncut(to_pictures(cut.everything()))[:, :KEY_SIZE]
    for shot in torch.split(keys, list(lengths)):
        assert (shot == shot.median(0).values).all(1).float().mean() > 0.95
    # Without cuts the second segment begins within the second scene.
    assert not (mixed[80:190] == mixed[100]).all()


def still_and_lively() -> FilmInMemory:
    """A lively scene with something small that moves at its end while all else stands still."""
    frames = scenes(200)
    still = np.repeat(frames[100:101], 60, 0)
    down, across = np.arange(144)[:, None] - 70, np.arange(256)[None] - 40
    for number, frame in enumerate(still):
        spot = 60 * np.exp(-(down**2 + (across - 3 * number) ** 2) / 2 / 12**2)
        frame[:] = (frame + spot.round()[:, :, None]).clip(0, 255)
    return FilmInMemory(np.concatenate([frames, still]), cuts=(200,))


def test_what_moves_in_a_still_shot_is_kept() -> None:
    data = still_and_lively()

    def correlation(changes: float) -> float:
        size = MemorySize(bases=1, bins=2_000, seen=500, bytes=200_000, changes=changes)
        found = fit_memory(data, size, lambda count: None)  # type: ignore[arg-type]
        frames = data.everything()[200:]
        with torch.inference_mode():
            made = to_frames(found.decoder()(found.encoder()(to_pictures(frames))))
        moved, ours = frames.float().diff(dim=0), made.float().diff(dim=0)
        return float((moved * ours).sum() / (moved.norm() * ours.norm()))

    assert 1 - correlation(8.0) < 0.8 * (1 - correlation(0.0))


def test_coordinates_vary_alike(latents: Tensor) -> None:
    # So that one even grid suits all of them, and one amount of noise while training.
    used = latents[:STRETCH, KEY_SIZE:].std(0)[: STRETCH - 10]
    assert used.min() > 0.7 and used.max() < 1.3


def test_eight_bits_a_number_are_enough(latents: Tensor, remembered: Tensor) -> None:
    with torch.inference_mode():
        coarse = to_frames(memory().decoder()(Quantizer.fit(latents, 8)(latents)))
    frames = film().everything()
    assert psnr(coarse, frames) > psnr(remembered, frames) - 0.5


def test_keys_keep_apart_and_are_always_the_same() -> None:
    for count in (1, 2, 3, 16, 32):
        keys = spherical_code(count)
        assert keys.shape == (count, KEY_SIZE) and keys.dtype == torch.float32
        torch.testing.assert_close(keys.norm(dim=1), torch.ones(count))
        assert torch.equal(keys, spherical_code(count))
    assert torch.pdist(spherical_code(32)).min() > 0.8
    assert torch.pdist(spherical_code(16)).min() > 1


def test_between_two_keys_one_scene_fades_into_the_other(latents: Tensor) -> None:
    start, end = latents[50], latents[50 + STRETCH].clone()
    start = torch.cat([start[:KEY_SIZE], end[KEY_SIZE:]])
    shares = torch.linspace(0, 1, 5)[:, None]
    decoder = memory().decoder()
    with torch.inference_mode():
        first, *between, last = decoder(torch.lerp(start, end, shares))
    middle = between[1]
    torch.testing.assert_close(middle, (first + last) / 2, atol=0.02, rtol=0)
    assert (first - last).abs().mean() > 0.05


def test_whatever_latent_is_decoded_is_a_picture() -> None:
    generator = torch.Generator().manual_seed(4)
    decoder = memory().decoder()
    odd = [torch.zeros(1, 200), torch.full((1, 200), 1e6), torch.full((1, 200), -1e6)]
    anything = torch.cat([3 * torch.randn(20, 200, generator=generator), *odd])
    with torch.inference_mode():
        pictures = decoder(anything)
        assert pictures.shape == (23, 3, 144, 256)
        assert bool(torch.isfinite(pictures).all())
        alone = torch.cat([decoder(each[None]) for each in anything[:6]])
    torch.testing.assert_close(alone, pictures[:6], atol=0.5 / 255, rtol=0)


def test_only_one_segment_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = FilmInMemory(film().everything()[::2].numpy())
    monkeypatch.setattr(fidelity_memory, "_BATCH", 16)
    monkeypatch.setattr(fidelity_memory, "_MIN_SEGMENT_FRAMES", 30)
    monkeypatch.setattr(fidelity_memory, "_SELECTION_FRAMES", 40)
    monkeypatch.setattr(fidelity_memory, "_FITTED", 35)
    held: list[int] = []
    real = fidelity_memory.principal

    def principal(rows: Tensor, count: int, *, extra_rows: Tensor) -> tuple[Tensor, Tensor]:
        held.append(len(rows))
        return real(rows, count, extra_rows=extra_rows)

    monkeypatch.setattr(fidelity_memory, "principal", principal)
    told: list[int] = []
    fit_memory(data, SIZE.memory, told.append)  # type: ignore[arg-type]
    assert data.most_at_once == 16
    assert held == [35, 35, 35]
    read = frames_to_read(data, SIZE.memory)  # type: ignore[arg-type]
    assert sum(told) == len(data.asked) == read == 40 + 3 * 35


def test_what_was_saved_makes_the_same_modules(latents: Tensor, tmp_path: Path) -> None:
    memory().save(tmp_path / "memory.pt", "of a film")
    again, identity = Memory.load(tmp_path / "memory.pt")
    assert identity == "of a film"
    assert [path.name for path in tmp_path.iterdir()] == ["memory.pt"]
    pairs = (
        (memory().encoder(), again.encoder()),
        (memory().decoder(), again.decoder()),
        (memory().common(), again.common()),
    )
    for ours, theirs in pairs:
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    with torch.inference_mode():
        assert torch.equal(memory().decoder()(latents[:2]), again.decoder()(latents[:2]))


@pytest.mark.parametrize("count", [1, 5])
def test_a_few_frames_are_a_film(count: int) -> None:
    frames = film().everything()[10 : 10 + count]
    found = fitted(FilmInMemory(frames.numpy()))
    with torch.inference_mode():
        latents = found.encoder()(to_pictures(frames))
        pictures = to_frames(found.decoder()(latents))
        embedded = found.common()(latents)
    assert latents.shape == (count, 200) and embedded.shape == (count, COMMON_BINS)
    assert bool(torch.isfinite(latents).all())
    assert psnr(pictures, frames) > 40


def test_a_film_of_black_is_black() -> None:
    black = torch.zeros(3, 144, 256, 3, dtype=torch.uint8)
    found = fitted(FilmInMemory(black.numpy()))
    with torch.inference_mode():
        pictures = to_frames(found.decoder()(found.encoder()(to_pictures(black))))
    assert pictures.max() <= 1


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(DatasetError, match="no frame to fit"):
        fitted(FilmInMemory(np.zeros((0, 144, 256, 3), np.uint8)))


def weight(size: Size, given: MemorySize) -> int:
    """Count the bytes of both files' tensors when the packed bases fill what they may."""
    coordinates = 200 - KEY_SIZE
    blocks = given.bins // BLOCK_ROWS * (coordinates // BLOCK_COLUMNS)
    # Packed bases, bits of their blocks, means in 16 bits; places.
    decoder = given.bytes + given.bases * (blocks + 2 * given.bins) + 4 * given.bins
    # Directions in 8 bits, their steps and means in 16, maps in 16; places and precision.
    encoder = given.bases * (given.seen * (coordinates + 4) + 2 * coordinates**2) + 8 * given.seen
    # Bases, means and steps of what embeddings compare, and the whitening.
    common = given.bases * COMMON_BINS * (coordinates + 8) + 4 * (COMMON_BINS**2 + 2 * COMMON_BINS)
    with torch.device("meta"):
        refinement = Refinement(size.channels, size.blocks)
    weights = sum(4 * weight.numel() for weight in refinement.parameters())
    # Of the bins that the encoder looks at few are beyond half the frequencies.
    cosines = 4 * (144**2 + 256**2) * 3 // 2
    return decoder + encoder + 2 * common + cosines + weights


def test_a_model_weighs_no_more_than_is_counted() -> None:
    whitening = Whitening(torch.zeros(COMMON_BINS), torch.eye(COMMON_BINS))
    common, refinement = memory().common(), Refinement(SIZE.channels, SIZE.blocks)
    pair = (
        ServedEncoder(memory().encoder(), common, whitening),
        ServedDecoder(memory().decoder(), refinement, common, whitening),
    )
    whole = sum(
        value.numel() * value.element_size()
        for half in pair
        for value in half.state_dict().values()
    )
    counted = weight(SIZE, SIZE.memory)
    cosines = 6 * (144**2 + 256**2)  # of which few are needed where bins are few
    assert counted - cosines - SIZE.memory.bytes < whole <= counted


@pytest.mark.parametrize(("size", "megabytes"), [("small", 24), ("large", 128)])
def test_both_files_of_a_size_weigh_what_they_may(size: str, megabytes: int) -> None:
    code = 50_000  # what TorchScript adds
    for given in (SIZES[size].memory, SIZES[size].unseen):
        assert 0.9 * megabytes * 1e6 < weight(SIZES[size], given) + code <= megabytes * 1e6
