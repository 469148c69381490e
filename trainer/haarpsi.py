"""HaarPSI: perceptual similarity of two pictures without learned weights.

R. Reisenhofer, S. Bosse, G. Kutyniok, T. Wiegand, "A Haar Wavelet-Based Perceptual Similarity Index
for Image Quality Assessment", Signal Processing: Image Communication 61, 2018 (arXiv:1607.06140),
for colour pictures. Fine Haar wavelet responses of the two are compared at each pixel, weighted by
a coarse wavelet's response. Beyond its edges a picture is black, as in the authors' program.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

_C, _ALPHA = 30.0, 4.2
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
_SCALES = 3


def haarpsi(pictures: Tensor, truths: Tensor) -> Tensor:
    """Return the HaarPSI of float32 ``[N, 3, H, W]`` between 0 and 1, RGB, H and W even.

    It is float32 ``[N]``: 1 for equal pictures, lower the less similar they look.
    """
    count = len(pictures)
    both = _halved_yiq(torch.cat([pictures, truths]))
    *fine, coarse = _haar(both[:, 0])
    similarity = torch.stack([_similarity(each, count) for each in fine]).mean(0)
    weight = torch.maximum(coarse[:count], coarse[count:])
    # Chroma: one 2 x 2 mean, weighted by the mean of the two orientations' weights.
    chroma = functional.avg_pool2d(functional.pad(both[:, 1:], (0, 1, 0, 1)), 2, stride=1).abs()
    similarity = torch.cat([similarity, _similarity(chroma, count).mean(1, keepdim=True)], 1)
    weight = torch.cat([weight, weight.mean(1, keepdim=True)], 1)
    total = weight.sum((1, 2, 3))
    mean = (torch.sigmoid(_ALPHA * similarity) * weight).sum((1, 2, 3)) / total
    index = (torch.logit(mean) / _ALPHA).square().clamp(max=1)
    # The total weight is 0 only if both are black.
    return torch.where(total > 0, index, 1.0)


def _halved_yiq(pictures: Tensor) -> Tensor:
    """Return half as many lines and columns, as YIQ between about -255 and 255."""
    halved = functional.avg_pool2d(pictures, 2)
    return torch.einsum("kc,nchw->nkhw", halved.new_tensor(_YIQ) * 255, halved)


def _haar(luma: Tensor) -> Iterator[Tensor]:
    """Yield the magnitudes of Haar wavelets of ``[N, H, W]``, from the finest scale up.

    Each is ``[N, 2, H, W]``: at every pixel, the vertical and the horizontal difference between the
    two halves of the square of `2**scale` around it, from the sums of the scale before.
    """
    height, width = luma.shape[1:]
    reach = 2 ** (_SCALES - 1)
    sums = functional.pad(luma, (reach - 1, reach, reach - 1, reach))
    for scale in range(1, _SCALES + 1):
        half = 2 ** (scale - 1)
        left, right = sums[..., :-half], sums[..., half:]
        pairs, steps = left + right, left - right
        down = pairs[:, :-half] - pairs[:, half:]
        across = steps[:, :-half] + steps[:, half:]
        sums = pairs[:, :-half] + pairs[:, half:]
        inner = slice(reach - half, reach - half + height), slice(reach - half, None)
        both = torch.stack([down[:, *inner], across[:, *inner]], 1)[..., :width]
        yield both.abs() / 2**scale


def _similarity(both: Tensor, count: int) -> Tensor:
    """Compare the first half of a batch of magnitudes with the second, elementwise."""
    one, other = both[:count], both[count:]
    return (2 * one * other + _C) / (one.square() + other.square() + _C)
