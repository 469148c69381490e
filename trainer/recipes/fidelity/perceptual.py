r"""The perceptual finish of `fidelity`: fine-tuning for perceived detail instead of PSNR.

    python -m trainer train --recipe fidelity --fit all --data DATA --run RUN1 --minutes 20
    python -m trainer train --recipe fidelity --fit all --data DATA --run RUN2 --minutes 5 \
        --finish perceptual --from RUN1

Where detail is unpredictable, the least squared error is the mean of all possibilities: grass
becomes felt. Here a larger error is allowed in exchange for texture.

**Two scales.** The *detail* is what halving a picture removes: the finest level of a Laplacian
pyramid. In the halved picture the memory's contrast is within a few hundredths of the film's, so
invented texture there only adds error (HaarPSI, which compares halved pictures, fell). Of the
finest detail the memory keeps a third. So the halved picture is trained by an absolute pixel error,
and the detail by a learned metric (an adversary for each level of a pyramid: Denton, Chintala,
Szlam and Fergus, "Deep generative image models using a Laplacian pyramid of adversarial networks",
2015, arXiv:1506.05751).

**A learned similarity metric.** A discriminator learns to tell the film's detail from generated
detail, conditioned on the memory's picture (Isola, Zhu, Zhou and Efros, "Image-to-image translation
with conditional adversarial networks", 2017, arXiv:1611.07004). Its features at three levels are
the similarity metric besides the pixels (Larsen, Sønderby, Larochelle and Winther, "Autoencoding
beyond pixels using a learned similarity metric", 2016, arXiv:1512.09300); the film's features are
targets without gradients. It has logits at every level, so that the finest has its own.

**Stability.** The hinge loss has no gradient for what is clearly told apart (Lim and Ye, "Geometric
GAN", 2017, arXiv:1705.02894). The discriminator's layers are spectrally normalised (Miyato,
Kataoka, Koyama and Yoshida, "Spectral normalization for generative adversarial networks", 2018,
arXiv:1802.05957). Training starts from a finished run, and the discriminator gets a head start
before the refinement uses it. The published weights are an average, as in `fidelity`.

Only the refinement and the discriminator are trained: the memory and the latents stay the same, so
the two published models share their latents. A step uses a window of a quarter of each frame: more
steps, and as many pixels a minute.
"""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from trainer import checkpoint
from trainer.checkpoint import CheckpointError, State
from trainer.dataset import FrameDataset
from trainer.distributed import Group
from trainer.errors import TrainerError
from trainer.loop import Precision
from trainer.recipes.fidelity.memory import Memory
from trainer.recipes.fidelity.recipe import Fidelity, learn
from trainer.recipes.fidelity.sizes import Size
from trainer.run import fitted_data

_EPOCHS = 1
"""After the four of the training before: the last fifth."""

_DISCRIMINATOR_RATE = 1e-3
_DISCRIMINATOR_CHANNELS = (32, 64, 128)

_HEAD_START = 150
"""Steps that the discriminator is trained before the refinement uses it."""

_WINDOW = (72, 128)

_LOUDNESS = 20.0
"""Gain of the detail for the discriminator: a grey level becomes a twelfth."""

# All errors are in decibels.
_HALVED_WEIGHT = 1.0
_PIXEL_WEIGHT = 0.1
"""Of the whole picture's error; keeps the detail in place."""
_SIMILARITY_WEIGHT = 0.3
_ADVERSARY_WEIGHT = 0.2
"""Decibels per unit of the discriminator's logits. With 0.5 a fine weave appeared on smooth fur."""


class Discriminator(nn.Module):
    """Tells whether the detail of each patch is the film's; returns logits and features."""

    def __init__(self, channels: tuple[int, int, int] = _DISCRIMINATOR_CHANNELS) -> None:
        super().__init__()
        first, second, third = channels
        self.levels = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(24, first, 3, padding=1)),
                spectral_norm(nn.Conv2d(first, second, 4, stride=2, padding=1)),
                spectral_norm(nn.Conv2d(second, third, 4, stride=2, padding=1)),
            ]
        )
        self.heads = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(first, 1, 1)),
                spectral_norm(nn.Conv2d(second, 1, 1)),
                spectral_norm(nn.Conv2d(third, 1, 3, padding=1)),
            ]
        )

    def forward(self, pictures: Tensor, coarse: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return each level's logits ``[N, 1, h, w]``, above 0 for the film's, and features.

        Args:
            pictures: float32 ``[N, 3, H, W]``, about 0 to 1; H and W are multiples of 8. Of them
                only the detail is seen.
            coarse: the memory's pictures of them, of the same shape.
        """
        shown = torch.cat([2 * coarse - 1, _LOUDNESS * detail(pictures)], 1)
        hidden = F.pixel_unshuffle(shown, 2)
        logits, features = [], []
        for level, head in zip(self.levels, self.heads, strict=True):
            hidden = F.leaky_relu(level(hidden), 0.2)
            features.append(hidden.float())
            logits.append(head(hidden).float())
        return logits, features


def detail(pictures: Tensor) -> Tensor:
    """Return what halving pictures ``[N, 3, H, W]`` removes."""
    return pictures - F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2.0, mode="nearest")


class Perceptual(Fidelity):
    """`Fidelity` with an adversarial and a learned similarity loss."""

    def __init__(
        self,
        memory: Memory,
        size: Size,
        precision: Precision = "fp32",
        group: Group | None = None,
        *,
        unseen: bool = False,
    ) -> None:
        super().__init__(memory, size, precision, group, unseen=unseen)
        self.discriminator = Discriminator().to(self.group.device)
        self.discriminator_optimiser = torch.optim.Adam(
            self.discriminator.parameters(), lr=_DISCRIMINATOR_RATE, betas=(0.5, 0.99)
        )

    def step(self, frames: Tensor) -> Mapping[str, Tensor]:
        """Train on one batch; both gradients are computed before any update."""
        truth = self._truth(frames)
        latents, coarse = self._encode_with_noise(truth)
        truth, coarse = _windows(truth, coarse)
        generated = self._refined(self.refinement, coarse, latents)

        # The discriminator gets detached pictures, so that its own gradients stop there.
        generated_detached = generated.detach().requires_grad_()
        with self._autocast(), parametrize.cached():
            real_logits, real_features = self.discriminator(truth, coarse)
            logits, features = self.discriminator(generated_detached, coarse)
        similarity_loss = _feature_distance(features, real_features)
        discriminator_loss = _mean(F.relu(1 - each).mean() for each in real_logits)
        discriminator_loss = discriminator_loss + _mean(F.relu(1 + each).mean() for each in logits)

        # Refinement: keep the halved picture, be similar, and fool the discriminator.
        error = _decibels(generated_detached - truth)
        loss = (
            _HALVED_WEIGHT * _decibels(F.avg_pool2d(generated_detached - truth, 2))
            + _PIXEL_WEIGHT * error
        )
        if self.steps >= _HEAD_START:
            fooled = _mean(each.mean() for each in logits)
            loss = loss + _SIMILARITY_WEIGHT * similarity_loss - _ADVERSARY_WEIGHT * fooled
        (gradient,) = torch.autograd.grad(loss, [generated_detached], retain_graph=True)
        generated.backward(gradient)  # type: ignore[no-untyped-call]  # torch's

        # Discriminator: tell them apart.
        weights = list(self.discriminator.parameters())
        gradients = list(torch.autograd.grad(discriminator_loss, weights))
        self._update()
        self.group.average(gradients)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        self.discriminator_optimiser.step()
        self.discriminator_optimiser.zero_grad()
        return {
            "psnr": -error.detach(),
            "similarity": similarity_loss.detach(),
            "discriminator": discriminator_loss.detach() / 2,
        }

    def state_dict(self) -> State:
        """Return the state of `Fidelity`, the discriminator and its optimiser."""
        return {
            **super().state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimiser": self.discriminator_optimiser.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.discriminator.load_state_dict(cast(dict[str, Tensor], state["discriminator"]))
        self.discriminator_optimiser.load_state_dict(
            cast(dict[str, object], state["discriminator_optimiser"])
        )


def _windows(truth: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same random window of both, aligned to the refinement's patches."""
    height, width = _WINDOW
    top = 4 * int(torch.randint((truth.size(2) - height) // 4 + 1, ()))
    left = 4 * int(torch.randint((truth.size(3) - width) // 4 + 1, ()))
    place = (..., slice(top, top + height), slice(left, left + width))
    return truth[place], coarse[place]


def _decibels(off: Tensor) -> Tensor:
    """Return the mean absolute error in decibels.

    Over the whole batch, or a dark window would count as much as one full of leaves.
    """
    return 20 * (off.abs().mean() + 1e-4).log10()


def _feature_distance(generated: list[Tensor], real: list[Tensor]) -> Tensor:
    """Return the distance of features from the film's in decibels, the mean over levels."""
    # Squared error, as in Larsen et al.: invented features cost more.
    errors = (F.mse_loss(a, b.detach()) for a, b in zip(generated, real, strict=True))
    return _mean(10 * (error + 1e-7).log10() for error in errors)


def _mean(numbers: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(numbers)).mean()


def train(options: argparse.Namespace) -> None:
    """Start from a finished run, or resume a finish, and write the run.

    Raises:
        TrainerError: options contradict each other, or training diverged.
        SystemExit: a signal stopped it early; started again, it resumes.
    """
    if options.previous is None:
        raise TrainerError("--finish starts from a finished run of fidelity: pass --from ITS_RUN")
    data = fitted_data(options.data, options.fit)
    begun = bool(checkpoint.paths(options.run))
    start = None if begun else _weights_of(options.previous, data, options)
    learn(options, data, Perceptual, _EPOCHS, start)


def _weights_of(run: Path, data: FrameDataset, options: argparse.Namespace) -> dict[str, Tensor]:
    """Return the averaged refinement of a run's last checkpoint."""
    saved = checkpoint.paths(run)
    if not saved:
        raise CheckpointError(f"{run} holds no checkpoint to start from")
    if not (run / "memory.pt").exists():
        raise CheckpointError(f"{run} holds no memory: a finish starts from a run of fidelity")
    state = checkpoint.load(saved[-1])
    identity, learner = state.get("identity"), state.get("learner")
    if not isinstance(identity, dict) or not isinstance(learner, dict):
        raise CheckpointError(f"{saved[-1]} lacks weights or their identity")
    if identity.get("recipe") != "fidelity" or "finish" in identity:
        found = " ".join(str(identity[key]) for key in ("recipe", "finish") if key in identity)
        raise CheckpointError(f"{run} is a run of {found}: a finish starts from one of fidelity")
    for name, ours in (("size", options.size), ("fit", options.fit)):
        if identity.get(name) != ours:
            raise CheckpointError(
                f"{run} was trained with --{name} {identity.get(name)}: its finish needs the same"
            )
    if identity.get("data") != data.digest:
        raise CheckpointError(f"{run} was trained on other frames than those in {options.data}")
    return cast(dict[str, Tensor], learner["average"])
