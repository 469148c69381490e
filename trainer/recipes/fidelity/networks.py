"""The networks of `fidelity`: the memory's encoder and decoder, and the refinement network.

Everything here is scriptable, and runs as published.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from trainer.export import LATENT_SIZE, Whitening, to_frames, to_pictures
from trainer.recipes.fidelity.packing import PackedBases

KEY_SIZE = 4
"""The latent's first numbers are the key of the basis that the others are coordinates in."""

COORDINATES = LATENT_SIZE - KEY_SIZE

COMMON_BINS = 200
"""Bins that embeddings are made from: coordinates of different bases cannot be compared."""

KEY_SPREAD = 0.03
"""Squared distance between keys over which a basis fades out; keys are at least 0.8 apart."""

MIN_WEIGHT = 1e-3
"""Bases with less weight are left out."""

_COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-0.5, 1.0, -0.5))
"""Luma, red against blue, green against both: orthogonal, so that squared errors are preserved."""

_PATCH = 4

_MAX_REACH = 3.0
"""Largest coordinate: they have about unit variance, but may be far larger in an unseen frame."""


def cosines(size: int) -> Tensor:
    """Return the orthonormal DCT-II matrix ``[frequency, place]``."""
    place = torch.arange(size, dtype=torch.float64) + 0.5
    matrix = torch.cos(torch.pi / size * torch.arange(size, dtype=torch.float64)[:, None] * place)
    matrix *= (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix.float()


class Spectrum(nn.Module):
    """Pictures to selected bins of their orthonormal colour DCT, and back.

    Orthonormal, so a squared error in the bins equals that in the pixels.
    """

    def __init__(self, bins: Tensor) -> None:
        """Take the bins' indices into a flattened ``[3, 144, 256]``, int64 ``[bins]``."""
        super().__init__()
        plane = MODEL_FRAME_HEIGHT * MODEL_FRAME_WIDTH
        down = bins % plane // MODEL_FRAME_WIDTH
        across = bins % MODEL_FRAME_WIDTH
        # Only the frequencies that the bins use.
        self.height, self.width = int(down.max()) + 1, int(across.max()) + 1
        colours = torch.tensor(_COLOURS)
        self.colours: Tensor
        self.rows: Tensor
        self.columns: Tensor
        self.places: Tensor
        self.register_buffer("colours", colours / colours.norm(dim=1, keepdim=True))
        self.register_buffer("rows", cosines(MODEL_FRAME_HEIGHT)[: self.height].clone())
        self.register_buffer("columns", cosines(MODEL_FRAME_WIDTH)[: self.width].clone())
        places = (bins // plane * self.height + down) * self.width + across
        self.register_buffer("places", places.to(torch.int32))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the bins ``[N, bins]`` of pictures ``[N, 3, 144, 256]``."""
        seen = self.rows @ pictures @ self.columns.T
        mixed = torch.einsum("ij,njhw->nihw", self.colours, seen)
        return mixed.flatten(1)[:, self.places.long()]

    @torch.jit.export
    def pictures(self, bins: Tensor) -> Tensor:
        """Return pictures ``[N, 3, 144, 256]`` with these bins, all others zero."""
        seen = torch.zeros(bins.size(0), 3 * self.height * self.width, device=bins.device)
        seen = seen.index_copy(1, self.places.long(), bins)
        mixed = seen.view(-1, 3, self.height, self.width)
        planes = torch.einsum("ij,nihw->njhw", self.colours, mixed)
        pictures: Tensor = self.rows.T @ planes @ self.columns
        return pictures


class MemoryEncoder(nn.Module):
    """Pictures to latents: the key of the best basis, and the coordinates in it.

    The coordinates are the posterior mean given some of the picture's bins, under factor analysis:
    coordinates of unit variance, and the residual variance of each bin as noise (Bishop, "Pattern
    Recognition and Machine Learning", 12.2.4). So a few hundred bins determine the coordinates in a
    basis of tens of thousands.
    """

    def __init__(
        self,
        spectrum: Spectrum,
        means: Tensor,
        precision: Tensor,
        directions: Tensor,
        steps: Tensor,
        maps: Tensor,
        keys: Tensor,
    ) -> None:
        """Take the parts of a fitted memory.

        Args:
            spectrum: of the encoder's bins.
            means: ``[bases, bins]``.
            precision: scale of the bins before they are compared, ``[bins]``.
            directions: orthonormal, quantized, int8 ``[bases, bins, COORDINATES]``.
            steps: quantization steps, float16 ``[bases, bins, 1]``.
            maps: from positions along the directions to coordinates, ``[bases, COORDINATES, C.]``.
            keys: ``[bases, KEY_SIZE]``.
        """
        super().__init__()
        self.spectrum = spectrum
        self.means: Tensor
        self.precision: Tensor
        self.directions: Tensor
        self.steps: Tensor
        self.maps: Tensor
        self.keys: Tensor
        self.register_buffer("means", means.half())
        self.register_buffer("precision", precision)
        self.register_buffer("directions", directions)
        self.register_buffer("steps", steps)
        self.register_buffer("maps", maps.half())
        self.register_buffer("keys", keys)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the latents ``[N, 200]`` of pictures ``[N, 3, 144, 256]``."""
        bins = self.spectrum(pictures)
        off = (bins.unsqueeze(0) - self.means.float().unsqueeze(1)) * self.precision
        directions = self.directions.float() * self.steps.float()
        along = torch.bmm(off, directions)
        # In 8 bits directions are not quite orthonormal: project the residual once more.
        back = directions.transpose(1, 2)
        left = off - torch.bmm(along, back)
        left = left - torch.bmm(torch.bmm(left, directions), back)
        best = left.square().sum(2).argmin(0)
        chosen = along[best, torch.arange(best.size(0), device=best.device)]
        coordinates = torch.bmm(chosen.unsqueeze(1), self.maps[best].float()).squeeze(1)
        return torch.cat([self.keys[best], coordinates], 1)


class Common(nn.Module):
    """Latents to the strongest bins of their pictures, comparable across bases."""

    def __init__(self, means: Tensor, bases: Tensor, keys: Tensor) -> None:
        """Take means ``[bases, COMMON_BINS]``, bases ``[bases, C_B., COORDINATES]`` and keys."""
        super().__init__()
        steps = bases.abs().amax(2, keepdim=True).clamp(min=1e-6) / 127
        self.means: Tensor
        self.bases: Tensor
        self.steps: Tensor
        self.keys: Tensor
        self.register_buffer("means", means.clone())
        self.register_buffer("bases", (bases / steps).round().to(torch.int8))
        self.register_buffer("steps", steps.clone())
        self.register_buffer("keys", keys.clone())

    def forward(self, latents: Tensor) -> Tensor:
        """Return bins ``[N, COMMON_BINS]`` of latents ``[N, 200]``."""
        weights = key_weights(latents, self.keys)
        bases = self.bases.float() * self.steps
        mixed = torch.einsum("kbc,nc->nkb", bases, latents[:, self.keys.size(1) :]) + self.means
        return (weights.unsqueeze(2) * mixed).sum(1)


def key_weights(latents: Tensor, keys: Tensor, spread: float = KEY_SPREAD) -> Tensor:
    """Return the weight of each basis for latents ``[N, 200]``, ``[N, bases]``, with the sum 1.

    An encoder's key selects one basis; between two keys one fades into the other.
    """
    distances = (latents[:, : keys.size(1)].unsqueeze(1) - keys.unsqueeze(0)).square().sum(2)
    return torch.softmax(-distances / spread, 1)


class MemoryDecoder(nn.Module):
    """Latents to the memory's pictures."""

    def __init__(self, spectrum: Spectrum, means: Tensor, bases: PackedBases, keys: Tensor) -> None:
        """Take means ``[bases, bins]``, the packed bases and their keys ``[bases, KEY_SIZE]``."""
        super().__init__()
        self.spectrum = spectrum
        self.bases = bases
        self.means: Tensor
        self.keys: Tensor
        self.register_buffer("means", means.half())
        self.register_buffer("keys", keys.clone())
        self.least_weight = MIN_WEIGHT

    def forward(self, latents: Tensor) -> Tensor:
        """Return pictures ``[N, 3, 144, 256]``, about 0 to 1, of latents ``[N, 200]``."""
        weights = key_weights(latents, self.keys)
        coordinates = latents[:, self.keys.size(1) :]
        bins = torch.zeros(latents.size(0), self.means.size(1), device=latents.device)
        wanted = (weights.detach() > self.least_weight).any(0)
        for number in range(self.keys.size(0)):
            if bool(wanted[number]):
                seen = coordinates @ self.bases(number).T + self.means[number].float()
                bins = bins + weights[:, number].unsqueeze(1) * seen
        return self.spectrum.pictures(bins)


class _Block(nn.Module):
    """A residual block whose features are scaled and shifted by the latent (FiLM)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.condition = nn.Linear(LATENT_SIZE, 2 * channels)
        nn.init.zeros_(self.condition.weight)
        nn.init.zeros_(self.condition.bias)
        nn.init.zeros_(self.second.weight)

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        scale, shift = self.condition(latents).unsqueeze(2).unsqueeze(3).chunk(2, 1)
        inside = F.gelu(self.first(features) * (1.0 + scale) + shift)
        refined: Tensor = features + self.second(inside)
        return refined


class Refinement(nn.Module):
    """Refines the memory's picture by convolutions conditioned on the latent.

    Works on patches of 4 by 4 pixels. Its last layer starts at zero, so it starts as the identity.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.patch = _PATCH
        self.farthest = _MAX_REACH
        self.head = nn.Conv2d(3 * _PATCH**2, channels, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(channels) for _ in range(blocks))
        self.tail = nn.Conv2d(channels, 3 * _PATCH**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(cast(Tensor, self.tail.bias))

    def forward(self, pictures: Tensor, latents: Tensor) -> Tensor:
        """Refine pictures ``[N, 3, 144, 256]`` of latents ``[N, 200]``."""
        features = self.head(F.pixel_unshuffle(pictures - 0.5, self.patch))
        latents = latents.clamp(-self.farthest, self.farthest)
        for block in self.blocks:
            features = block(features, latents)
        return pictures + F.pixel_shuffle(self.tail(features), self.patch)


class ServedEncoder(nn.Module):
    """Frames -> (latent, embedding), see `trainer.export`."""

    def __init__(self, memory: MemoryEncoder, common: Common, whitening: Whitening) -> None:
        super().__init__()
        self.memory, self.common, self.whitening = memory, common, whitening

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents and embeddings."""
        latents = self.memory(to_pictures(frames))
        return latents, self.whitening(self.common(latents))


class ServedDecoder(nn.Module):
    """Latents -> (frames, embedding), see `trainer.export`."""

    def __init__(
        self, memory: MemoryDecoder, refinement: Refinement, common: Common, whitening: Whitening
    ) -> None:
        super().__init__()
        self.memory, self.common, self.whitening = memory, common, whitening
        self.refinement = refinement

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames and embeddings."""
        return to_frames(self.pictures(latents)), self.whitening(self.common(latents))

    @torch.jit.export
    def pictures(self, latents: Tensor) -> Tensor:
        """Return pictures ``[N, 3, 144, 256]``, neither rounded nor clipped."""
        pictures: Tensor = self.refinement(self.memory(latents), latents)
        return pictures
