"""HaarPSI held against a slow reading of the paper, figures by hand and figures of piq."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainer.haarpsi import haarpsi


def pictures(seed: int, count: int = 2, height: int = 36, width: int = 64) -> Tensor:
    """Soft shapes with some grain, float32 ``[N, 3, H, W]``."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 9, generator=generator)
    soft = functional.interpolate(coarse, (height, width), mode="bicubic")
    return (soft + 0.05 * torch.randn(soft.shape, generator=generator)).clamp(0, 1)


def blurred(pictures: Tensor, size: int) -> Tensor:
    return functional.avg_pool2d(pictures, size, 1, size // 2, count_include_pad=False)


def noisy(pictures: Tensor, amount: float) -> Tensor:
    grain = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    return (pictures + amount * grain).clamp(0, 1)


def by_the_paper(picture: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Read the paper's formulas place by place, in float64; pictures ``[3, H, W]``, 0 to 1."""
    one, other = in_yiq_and_half_the_size(picture), in_yiq_and_half_the_size(truth)
    above = below = 0.0
    for y in range(one.shape[1]):
        for x in range(one.shape[2]):
            weights = []
            for down in (True, False):
                fine = [[wavelet(each[0], y, x, j, down) for j in (1, 2)] for each in (one, other)]
                coarse = [wavelet(each[0], y, x, 3, down) for each in (one, other)]
                similarity = sum(map(alike, *fine)) / 2
                weights.append(max(coarse))
                above += logistic(similarity) * weights[-1]
                below += weights[-1]
            chroma = [
                [abs(window(each[k], y, x, 2).mean()) for k in (1, 2)] for each in (one, other)
            ]
            weight = sum(weights) / 2
            above += logistic(sum(map(alike, *chroma)) / 2) * weight
            below += weight
    return (math.log(above / below / (1 - above / below)) / 4.2) ** 2


def in_yiq_and_half_the_size(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    red, green, blue = 255 * picture
    yiq = np.stack(
        [
            0.299 * red + 0.587 * green + 0.114 * blue,
            0.596 * red - 0.274 * green - 0.322 * blue,
            0.211 * red - 0.523 * green + 0.312 * blue,
        ]
    )
    return (yiq[:, ::2, ::2] + yiq[:, 1::2, ::2] + yiq[:, ::2, 1::2] + yiq[:, 1::2, 1::2]) / 4


def window(plane: NDArray[np.float64], y: int, x: int, size: int) -> NDArray[np.float64]:
    """Cut the square around a place's lower right corner; black beyond the edges."""
    wide = np.pad(plane, size)
    top, left = y + size - size // 2 + 1, x + size - size // 2 + 1
    return wide[top : top + size, left : left + size]


def wavelet(plane: NDArray[np.float64], y: int, x: int, scale: int, down: bool) -> float:
    square = window(plane, y, x, 2**scale)
    one, other = np.split(square, 2, axis=0 if down else 1)
    return float(abs(one.sum() - other.sum())) / 2**scale


def alike(one: float, other: float) -> float:
    return (2 * one * other + 30) / (one**2 + other**2 + 30)


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-4.2 * value))


@pytest.mark.parametrize(
    "change",
    [
        lambda truth: noisy(truth, 0.1),
        lambda truth: blurred(truth, 5),
        lambda truth: truth.flip(0),
        lambda truth: truth[:, [1, 2, 0]],
        lambda truth: truth * 0.5,
        lambda truth: torch.zeros_like(truth),
    ],
    ids=["noise", "blur", "another", "colours", "dark", "black"],
)
def test_it_is_what_the_papers_formulas_say(change: Callable[[Tensor], Tensor]) -> None:
    truth = pictures(1, height=20, width=26)
    picture = change(truth)
    expected = [
        by_the_paper(*pair)
        for pair in zip(picture.double().numpy(), truth.double().numpy(), strict=True)
    ]
    found = haarpsi(picture, truth)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected, abs=2e-5)


def test_one_lit_place_by_hand() -> None:
    # Once halved, one grey pixel of level 60 against black: wavelets of 60 / 2, 60 / 4 and 60 / 8
    # in both orientations, no chroma. Similarities (30 / 930 + 30 / 255) / 2 = 0.07495 twice and
    # 1, equal weights; (2 * 0.57806 + 0.98523) / 3 = 0.71378 is the logistic of 4.2 * 0.21759.
    truth = torch.full((1, 3, 2, 2), 60 / 255)
    assert haarpsi(truth * 0, truth).item() == pytest.approx(0.21759**2, abs=1e-5)


def test_it_is_what_piq_gives() -> None:
    """Values of piq 0.8.0, `piq.haarpsi(picture, truth)`; its YIQ has one digit more."""
    lines, columns = torch.arange(144.0)[:, None], torch.arange(256.0)[None]
    waves = [torch.sin((k + 1) * columns / 9 + lines / (7 + k)) for k in range(3)]
    truth = 0.5 + 0.4 * torch.stack(waves)[None]
    values = {
        0.683869: 0.5 + (truth - 0.5) / 2,
        0.817173: truth.roll(1, 3),
        0.357683: truth.roll(4, 3),
        0.983927: (truth * 8).round() / 8,
        0.190364: truth.mean(1, keepdim=True).expand_as(truth),
    }
    found = haarpsi(torch.cat(list(values.values())), truth.expand(5, -1, -1, -1))
    assert found.tolist() == pytest.approx(list(values), abs=2e-4)


def test_the_same_picture_is_one_whatever_it_shows() -> None:
    for same in (pictures(3), torch.zeros(2, 3, 36, 64), torch.ones(2, 3, 36, 64)):
        assert haarpsi(same, same).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_it_does_not_matter_which_of_the_two_is_the_truth() -> None:
    one, other = pictures(4), pictures(5)
    assert torch.allclose(haarpsi(one, other), haarpsi(other, one), atol=1e-6)


@pytest.mark.parametrize(
    "worse",
    [
        lambda truth, step: blurred(truth, 2 * step + 1),
        lambda truth, step: noisy(truth, 0.05 * step),
        lambda truth, step: truth.lerp(truth.mean((2, 3), keepdim=True), 0.25 * step),
    ],
    ids=["blur", "noise", "fading"],
)
def test_it_falls_as_pictures_get_worse(worse: Callable[[Tensor, int], Tensor]) -> None:
    truth = pictures(6, height=144, width=256)
    values = torch.stack([haarpsi(worse(truth, step), truth) for step in (1, 2, 3, 4)])
    assert bool((values.diff(dim=0) < 0).all())
    assert bool((values < 1).all()) and bool((values >= 0).all())


def test_a_picture_measures_the_same_alone_and_in_a_batch() -> None:
    truth = pictures(7, count=3)
    picture = noisy(truth, 0.2)
    alone = [haarpsi(picture[n : n + 1], truth[n : n + 1]).item() for n in range(3)]
    assert haarpsi(picture, truth).tolist() == pytest.approx(alone, abs=1e-6)
