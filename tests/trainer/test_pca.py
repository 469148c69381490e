import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.film_clips import clip_of_scenes, write_clip
from trainer.dataset import FrameDataset
from trainer.errors import DatasetError
from trainer.prepare import Sampling, prepare
from trainer.recipes import pca
from trainer.recipes.pca import PcaDecoder, PcaEncoder, find_components
from trainer.run import Run
from trainer.validate import validate

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class FramesInMemory:
    """A data set for `find_components` that needs no film."""

    def __init__(self, frames: np.ndarray) -> None:
        self._frames = frames
        self.fitted = np.arange(len(frames), dtype=np.int64)
        self.most_at_once = 0

    def frames(self, indices: np.ndarray) -> np.ndarray:
        self.most_at_once = max(self.most_at_once, len(indices))
        return self._frames[indices]


def mixtures(count: int, rank: int) -> np.ndarray:
    """Frames that are mixtures of `rank` smooth pictures, and a little grain."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(rank, 3, 9, 16, generator=generator)
    pictures = torch.nn.functional.interpolate(coarse, (144, 256), mode="bicubic")
    spread = 120 / rank**0.5 * 0.98 ** torch.arange(rank)
    weights = torch.randn(count, rank, generator=generator) * spread
    frames = weights @ pictures.permute(0, 2, 3, 1).flatten(1) + 128
    frames += 2 * torch.randn(frames.shape, generator=generator)
    return frames.clamp(0, 255).to(torch.uint8).reshape(count, 144, 256, 3).numpy()


def reconstruction_error(components: pca.Components, frames: np.ndarray) -> float:
    pixels = torch.from_numpy(frames).flatten(1).float() / 255 - components.mean
    return float((pixels - pixels @ components.directions @ components.directions.T).pow(2).mean())


def test_streamed_components_are_as_good_as_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = mixtures(300, 245)
    data = FramesInMemory(frames)
    monkeypatch.setattr(pca, "_SAMPLE", 220)
    monkeypatch.setattr(pca, "_BATCH", 50)
    seen: list[int] = []
    streamed = find_components(data, seen.append)  # type: ignore[arg-type]
    assert data.most_at_once == 50
    assert sum(seen) == pca.frames_to_read(300) == 220 + 2 * 300 + 300

    monkeypatch.setattr(pca, "_SAMPLE", 300)
    exact = find_components(data, seen.append)  # type: ignore[arg-type]
    assert torch.allclose(streamed.mean, exact.mean, atol=1e-5)
    best = reconstruction_error(exact, frames)
    # A hard case: the variances hardly fall off, and the sample has not seen all directions.
    assert reconstruction_error(streamed, frames) < 1.05 * best
    assert torch.allclose(streamed.variances[:100], exact.variances[:100], rtol=0.02)


def test_directions_are_orthonormal_and_variances_the_latents_own() -> None:
    frames = mixtures(240, 230)
    components = find_components(FramesInMemory(frames), lambda count: None)  # type: ignore[arg-type]
    gram = components.directions.T @ components.directions
    assert torch.allclose(gram, torch.eye(200), atol=1e-3)
    latents, _ = PcaEncoder(components)(torch.from_numpy(frames))
    assert torch.allclose(latents.mean(0), torch.zeros(200), atol=1e-3)
    assert torch.allclose(latents.var(0, unbiased=False), components.variances, rtol=1e-2)
    assert (components.variances.diff() <= 1e-6).all()


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((40, 144, 256, 3), np.uint8),
        np.full((1, 144, 256, 3), 255, np.uint8),
        mixtures(7, 3),
    ],
    ids=["black", "one frame", "seven frames"],
)
def test_films_with_little_in_them_keep_the_contract(frames: np.ndarray) -> None:
    components = find_components(FramesInMemory(frames), lambda count: None)  # type: ignore[arg-type]
    encoder, decoder = PcaEncoder(components), PcaDecoder(components)
    validate(torch.jit.script(encoder), torch.jit.script(decoder))
    latents, embeddings = encoder(torch.from_numpy(frames))
    assert latents.shape == embeddings.shape == (len(frames), 200)
    assert torch.isfinite(embeddings).all()
    difference = decoder(latents)[0].int() - torch.from_numpy(frames).int()
    assert int(difference.abs().max()) <= 1


def test_an_empty_data_set_is_refused() -> None:
    empty = FramesInMemory(np.zeros((0, 144, 256, 3), np.uint8))
    with pytest.raises(DatasetError, match="no frame to fit"):
        find_components(empty, lambda count: None)  # type: ignore[arg-type]


def film(tmp_path: Path) -> Path:
    """52 s at 2 frames a second, its fifth block (40 to 50 s) unlike the rest."""
    clip = clip_of_scenes(tmp_path / "film.mp4", [80, 20, 4], rate=2)
    prepare([clip], tmp_path / "data", Sampling(), lambda done, total: None)
    return tmp_path / "data"


def psnr_of(run: Path, data: FrameDataset, indices: np.ndarray) -> float:
    frames = torch.from_numpy(data.frames(indices))
    encoder, decoder = torch.jit.load(run / "encoder.pt"), torch.jit.load(run / "decoder.pt")
    error = (decoder(encoder(frames)[0])[0].float() - frames.float()).pow(2).mean()
    return float(10 * torch.log10(255**2 / error.clamp(min=0.01)))


def test_held_out_blocks_are_left_unseen_unless_all_is_fitted(tmp_path: Path) -> None:
    folder = film(tmp_path)
    data = FrameDataset.open(folder)
    assert len(data.held_out) == 20
    for fit in ("fitted", "all"):
        pca.train(argparse.Namespace(data=folder, run=tmp_path / fit, fit=fit))
    seen, unseen = tmp_path / "all", tmp_path / "fitted"
    assert psnr_of(seen, data, data.held_out) > 35
    assert psnr_of(unseen, data, data.fitted) > 35
    assert psnr_of(unseen, data, data.held_out) < 25
    assert Run(unseen).facts()["frames"] == 84
    assert Run(seen).facts()["settings"] == {"fit": "all"}


def test_a_black_film_goes_all_the_way_to_a_run(tmp_path: Path) -> None:
    black = write_clip(tmp_path / "black.mp4", [np.zeros((180, 320, 3), np.uint8)] * 5)
    prepare([black], tmp_path / "data", Sampling(), lambda done, total: None)
    pca.train(argparse.Namespace(data=tmp_path / "data", run=tmp_path / "run", fit="fitted"))
    data = FrameDataset.open(tmp_path / "data")
    assert psnr_of(tmp_path / "run", data, data.fitted) > 50
