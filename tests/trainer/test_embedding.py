from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.models import TinyEncoder
from trainer.embedding import fit_whitening
from trainer.export import Whitening, to_frames, to_pictures

pytestmark = pytest.mark.slow


def film(count: int, seed: int) -> Tensor:
    """Frames of `count` different scenes."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 9, 16, generator=generator)
    return to_frames(torch.nn.functional.interpolate(coarse, (144, 256), mode="bicubic"))


def latents(frames: Tensor) -> Tensor:
    return TinyEncoder(1)(frames)[0]


def brighter(pictures: Tensor) -> Tensor:
    return 1.2 * pictures**0.8 + 0.05


def marked(pictures: Tensor) -> Tensor:
    changed = pictures.clone()
    changed[:, :, 4:36, 150:250] = torch.tensor([0.9, 0.9, 0.2])[:, None, None]
    return changed


def found(whitening: Whitening, frames: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return each changed frame's similarity to the frame itself less that to its best rival."""
    changed = whitening(latents(to_frames(change(to_pictures(frames)))))
    similarity = changed @ whitening(latents(frames)).T
    own = similarity.diagonal().clone()
    similarity.fill_diagonal_(-1)
    return own - similarity.max(dim=1).values


@pytest.mark.parametrize("change", [brighter, marked])
def test_changed_frames_are_told_apart_better_than_by_the_latents_own_covariance(
    change: Callable[[Tensor], Tensor],
) -> None:
    fitted, seen = film(220, 1), film(120, 2)
    own = latents(fitted)
    plain = Whitening(own.mean(0), torch.cov(own.T))
    better = fit_whitening(latents, [fitted])
    assert found(better, seen, change).mean() > found(plain, seen, change).mean() + 0.05
    assert (found(better, seen, change) > 0).float().mean() > 0.95


def test_the_batches_do_not_matter_to_unchanged_statistics_and_a_fit_repeats_itself() -> None:
    frames = film(24, 3)
    one, same = (fit_whitening(latents, frames.split(8)) for _ in range(2))
    assert torch.equal(one.matrix, same.matrix)
    assert torch.allclose(fit_whitening(latents, [frames]).mean, one.mean, atol=1e-5)


@pytest.mark.parametrize("level", [0, 255])
def test_a_film_without_pictures_gives_finite_embeddings(level: int) -> None:
    frames = torch.full((3, 144, 256, 3), level, dtype=torch.uint8)
    embeddings = fit_whitening(latents, [frames])(latents(film(5, 4)))
    torch.testing.assert_close(torch.linalg.vector_norm(embeddings, dim=1), torch.ones(5))
