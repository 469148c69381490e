import math
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from trainer.frame_metrics import (
    brightness,
    change,
    correlation,
    psnr,
    similarities,
    summary,
    temporal_summary,
)
from trainer.ssim import ms_ssim, ssim


def noisy(seed: int, amount: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(3, 3, 18, 32, generator=generator)
    truth = torch.nn.functional.interpolate(coarse, (144, 256), mode="bicubic").clamp(0, 1)
    picture = truth + amount * torch.randn(truth.shape, generator=generator)
    return picture.clamp(0, 1), truth


@pytest.mark.parametrize("amount", [0.0, 0.02, 0.3, 5.0])
def test_ssim_and_ms_ssim_are_those_of_torchmetrics(amount: float) -> None:
    picture, truth = noisy(1, amount)
    theirs: Any = structural_similarity_index_measure(
        picture, truth, data_range=1.0, reduction="none"
    )
    assert torch.allclose(ssim(picture, truth), theirs, atol=1e-5)
    theirs = multiscale_structural_similarity_index_measure(
        picture,
        truth,
        data_range=1.0,
        reduction="none",
        kernel_size=7,
        sigma=0.9,
        normalize="relu",
    )
    assert torch.allclose(ms_ssim(picture, truth), theirs, atol=1e-4)


def test_psnr_is_its_definition_and_capped() -> None:
    frames = torch.full((3, 144, 256, 3), 100, dtype=torch.uint8)
    other = frames.clone()
    other[1] += 5
    other[2, 0, 0, 0] += 1
    values = psnr(frames, other).tolist()
    assert values[0] == values[2] == pytest.approx(60)
    assert values[1] == pytest.approx(20 * math.log10(255 / 5), abs=1e-4)


def test_frames_without_error_are_wholly_similar() -> None:
    frames = torch.randint(0, 256, (2, 144, 256, 3), dtype=torch.uint8)
    for values in similarities(frames, frames):
        assert torch.allclose(values, torch.ones(2))


def test_change_tells_following_from_standing_still_and_trembling() -> None:
    generator = torch.Generator().manual_seed(0)

    def picture() -> torch.Tensor:
        return torch.randint(50, 200, (144, 256, 3), generator=generator).to(torch.uint8)

    before, now = picture(), picture()
    # One that follows exactly, 10 grey levels too bright all along.
    follows = change((before, before + 10), (now, now + 10))
    still = change((before, before), (now, before))
    trembles = change((before, before), (now, picture()))
    assert follows.error == 0
    assert still.error == pytest.approx(float((now.float() - before.float()).abs().mean()))

    assert correlation([follows]) == pytest.approx(1)
    assert correlation([still]) == 0
    assert 0.3 < (correlation([trembles]) or 0) < 0.7  # both left the same frame
    # Nothing can be said of a source that stands still.
    assert correlation([change((now, before), (now, now))]) is None


def test_the_worst_twentieth_is_the_lowest() -> None:
    told = summary(np.arange(100.0))
    assert told == {"mean": 49.5, "worst_5_percent": 2.0}
    assert summary(np.array([3.0])) == {"mean": 3.0, "worst_5_percent": 3.0}
    assert summary(np.array([])) is None
    assert temporal_summary([]) is None


def test_brightness_weighs_colours_as_the_eye_does_and_levels_all_alike() -> None:
    frames = torch.zeros(3, 144, 256, 3, dtype=torch.uint8)
    frames[0] = 80
    frames[1, ..., 1] = 90  # green
    frames[2, :72, :, 2] = 60  # the upper half blue
    luma, level = brightness(frames)
    assert luma.tolist() == pytest.approx([80, 90 * 0.7152, 30 * 0.0722], abs=1e-3)
    assert level.tolist() == pytest.approx([80, 30, 10], abs=1e-3)
