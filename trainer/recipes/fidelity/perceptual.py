r"""The perceptual finish of `fidelity`: a last fifth of training for the eye, not for the pixel.

    python -m trainer train --recipe fidelity --fit all --data DATA --run RUN1 --minutes 20
    python -m trainer train --recipe fidelity --fit all --data DATA --run RUN2 --minutes 5 \
        --finish perceptual --from RUN1

Where a picture's detail cannot be known, the least squared error paints the mean of all it could
be: grass becomes felt. Here a larger error is allowed, so that there can be more of the grass.

**What pixels say, and what the eye does.** A picture is halved, and what halving took away is its
*detail*, a step of a pyramid. At the edges of the halved picture the memory's contrast is the
film's within a few hundredths: it lacks truth there, not strength. Texture made up there is one
more error, and HaarPSI, which looks at halved pictures, fell. Of the finest detail the memory keeps
a third. So the halved picture is left to the pixels, whose error is absolute, not squared, and the
detail is the learned metric's (an adversary for each step of a pyramid: Denton, Chintala, Szlam and
Fergus, "Deep generative image models using a Laplacian pyramid of adversarial networks", 2015,
arXiv:1506.05751).

**A learned similarity metric.** A discriminator learns to tell the film's detail from painted,
each beside the memory's picture that it is to suit (Isola, Zhu, Zhou and Efros, "Image-to-image
translation with conditional adversarial networks", 2017, arXiv:1611.07004). What it sees on the
way, at three levels, is what "alike" means beside the pixels (Larsen, Sønderby, Larochelle and
Winther, "Autoencoding beyond pixels using a learned similarity metric", 2016, arXiv:1512.09300).
Features of the film are where to go, and are not moved to meet the painted ones. It gives its
verdict at every level, so that the finest has one of its own.

**What keeps it calm.** Verdicts are judged by the hinge loss, so that what is told apart clearly
teaches nothing more (Lim and Ye, "Geometric GAN", 2017, arXiv:1705.02894). The discriminator's
layers are divided by their spectral norms, so that no small change of a picture makes a large one
of its verdict (Miyato, Kataoka, Koyama and Yoshida, "Spectral normalization for generative
adversarial networks", 2018, arXiv:1802.05957). It starts late: from a finished run, whose pictures
it begins with, and the refinement heeds it only when it has learned for a while. And what is
published is the average of the refinement's weights, as in `fidelity`.

Only the refinement and the discriminator learn; latents, and the memory, stay what they were. So
two models go by two names and share their latents. A step learns from a window of each frame, a
quarter of it: more steps, and as many pixels a minute.
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
"""To the four of the training before: the last fifth."""

_DISCRIMINATOR_RATE = 1e-3
_DISCRIMINATOR_CHANNELS = (32, 64, 128)

_HEAD_START = 150
"""Steps that the discriminator learns before the refinement heeds it."""

_WINDOW = (72, 128)

_LOUDNESS = 20.0
"""Of detail, for the discriminator: a grey level of it becomes a twelfth."""

# All errors are in decibels.
_HALVED_WEIGHT = 1.0
_PIXEL_WEIGHT = 0.1
"""Of the whole picture's error: what holds the detail to its place."""
_SIMILARITY_WEIGHT = 0.3
_ADVERSARY_WEIGHT = 0.2
"""Decibels that one more in the verdict is worth. With 0.5 a fine weave appeared on smooth fur."""


class Discriminator(nn.Module):
    """Says of every patch of a picture whether its detail is the film's; and what it saw."""

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
        self.verdicts = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(first, 1, 1)),
                spectral_norm(nn.Conv2d(second, 1, 1)),
                spectral_norm(nn.Conv2d(third, 1, 3, padding=1)),
            ]
        )

    def forward(self, pictures: Tensor, remembered: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return each level's verdicts ``[N, 1, h, w]``, above 0 for the film's, and features.

        Args:
            pictures: float32 ``[N, 3, H, W]``, about 0 to 1; H and W are multiples of 8. Of them
                only the detail is seen.
            remembered: what the memory makes of them, likewise.
        """
        shown = torch.cat([2 * remembered - 1, _LOUDNESS * detail(pictures)], 1)
        seen = F.pixel_unshuffle(shown, 2)
        verdicts, features = [], []
        for level, verdict in zip(self.levels, self.verdicts, strict=True):
            seen = F.leaky_relu(level(seen), 0.2)
            features.append(seen.float())
            verdicts.append(verdict(seen).float())
        return verdicts, features


def detail(pictures: Tensor) -> Tensor:
    """Return what halving pictures ``[N, 3, H, W]`` takes away."""
    return pictures - F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2.0, mode="nearest")


class Perceptual(Fidelity):
    """`Fidelity` whose refinement is also to look like the film to a discriminator."""

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
        """Learn from one batch; both networks are judged as they stood before it."""
        truth = self._truth(frames)
        latents, remembered = self._remember(truth)
        truth, remembered = _windows(truth, remembered)
        painted = self._refined(self.refinement, remembered, latents)

        # The discriminator gets the pictures without their past: its own gradients stop at them.
        seen = painted.detach().requires_grad_()
        with self._autocast(), parametrize.cached():
            real_verdicts, real_features = self.discriminator(truth, remembered)
            verdicts, features = self.discriminator(seen, remembered)
        unlike = _unlikeness(features, real_features)
        told = _mean(F.relu(1 - verdict).mean() for verdict in real_verdicts)
        told = told + _mean(F.relu(1 + verdict).mean() for verdict in verdicts)

        # Refinement: keep the halved picture, be alike, and pass for film.
        error = _decibels(seen - truth)
        wanted = _HALVED_WEIGHT * _decibels(F.avg_pool2d(seen - truth, 2)) + _PIXEL_WEIGHT * error
        if self.steps >= _HEAD_START:
            passed = _mean(verdict.mean() for verdict in verdicts)
            wanted = wanted + _SIMILARITY_WEIGHT * unlike - _ADVERSARY_WEIGHT * passed
        (pull,) = torch.autograd.grad(wanted, [seen], retain_graph=True)
        painted.backward(pull)  # type: ignore[no-untyped-call]  # torch's

        # Discriminator: tell them apart.
        weights = list(self.discriminator.parameters())
        gradients = list(torch.autograd.grad(told, weights))
        self._update()
        self.group.average(gradients)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        self.discriminator_optimiser.step()
        self.discriminator_optimiser.zero_grad()
        return {"psnr": -error.detach(), "unlike": unlike.detach(), "untold": told.detach() / 2}

    def state_dict(self) -> State:
        """Return what `Fidelity` does, and the discriminator and its optimiser's state."""
        return {
            **super().state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimiser": self.discriminator_optimiser.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take back what `state_dict` returned."""
        super().load_state_dict(state)
        self.discriminator.load_state_dict(cast(dict[str, Tensor], state["discriminator"]))
        self.discriminator_optimiser.load_state_dict(
            cast(dict[str, object], state["discriminator_optimiser"])
        )


def _windows(truth: Tensor, remembered: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same window of both, somewhere, in step with the refinement's patches."""
    height, width = _WINDOW
    top = 4 * int(torch.randint((truth.size(2) - height) // 4 + 1, ()))
    left = 4 * int(torch.randint((truth.size(3) - width) // 4 + 1, ()))
    place = (..., slice(top, top + height), slice(left, left + width))
    return truth[place], remembered[place]


def _decibels(off: Tensor) -> Tensor:
    """Return the mean of what is off, in decibels.

    Over a whole batch: else a dark window would count for as much as one full of leaves.
    """
    return 20 * (off.abs().mean() + 1e-4).log10()


def _unlikeness(painted: list[Tensor], real: list[Tensor]) -> Tensor:
    """Return how far features are from the film's, in decibels: the mean over levels."""
    # Squares: the distance as Larsen and others have it, and features made up cost more.
    errors = (F.mse_loss(a, b.detach()) for a, b in zip(painted, real, strict=True))
    return _mean(10 * (error + 1e-7).log10() for error in errors)


def _mean(numbers: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(numbers)).mean()


def train(options: argparse.Namespace) -> None:
    """Go on from a finished run, or with a finish that was begun, and write the run.

    Raises:
        TrainerError: something asked for does not fit together, or training diverged.
        SystemExit: a signal ended it early; the run goes on when it is started again.
    """
    if options.previous is None:
        raise TrainerError("--finish goes on from a finished run of fidelity: say --from ITS_RUN")
    data = fitted_data(options.data, options.fit)
    begun = bool(checkpoint.paths(options.run))
    start = None if begun else _weights_of(options.previous, data, options)
    learn(options, data, Perceptual, _EPOCHS, start)


def _weights_of(run: Path, data: FrameDataset, options: argparse.Namespace) -> dict[str, Tensor]:
    """Return the averaged refinement of a run's last checkpoint."""
    saved = checkpoint.paths(run)
    if not saved:
        raise CheckpointError(f"{run} holds no checkpoint to go on from")
    if not (run / "memory.pt").exists():
        raise CheckpointError(f"{run} holds no memory: a finish goes on from a run of fidelity")
    state = checkpoint.load(saved[-1])
    identity, learner = state.get("identity"), state.get("learner")
    if not isinstance(identity, dict) or not isinstance(learner, dict):
        raise CheckpointError(f"{saved[-1]} lacks weights, or says not what they are of")
    if identity.get("recipe") != "fidelity" or "finish" in identity:
        found = " ".join(str(identity[key]) for key in ("recipe", "finish") if key in identity)
        raise CheckpointError(f"{run} is a run of {found}: a finish goes on from one of fidelity")
    for name, ours in (("size", options.size), ("fit", options.fit)):
        if identity.get(name) != ours:
            raise CheckpointError(
                f"{run} was trained with --{name} {identity.get(name)}: its finish needs the same"
            )
    if identity.get("data") != data.digest:
        raise CheckpointError(f"{run} was trained on other frames than those in {options.data}")
    return cast(dict[str, Tensor], learner["average"])
