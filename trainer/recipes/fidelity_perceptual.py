r"""The perceptual finish of `fidelity`: a last fifth of training for the eye, not for the pixel.

    python -m trainer train --recipe fidelity --fit all --data DATA --run RUN1 --minutes 20
    python -m trainer train --recipe fidelity --fit all --data DATA --run RUN2 --minutes 5 \
        --finish perceptual --from RUN1

Where a picture's detail cannot be known, the least squared error paints the mean of all it could
be: grass becomes felt. Here a larger error is allowed, so that there can be more of the grass.

**A learned similarity metric.** A discriminator learns to tell film frames from painted ones. What
it sees on the way, at three levels, is what "alike" means beside the pixels (Larsen, Sønderby,
Larochelle and Winther, "Autoencoding beyond pixels using a learned similarity metric", 2016,
arXiv:1512.09300). Features of the film are where to go, and are not moved to meet the painted ones.

**What keeps it calm.** Verdicts are judged by the hinge loss, so that what is told apart clearly
teaches nothing more (Lim and Ye, "Geometric GAN", 2017, arXiv:1705.02894). The discriminator's
layers are divided by their spectral norms, so that no small change of a picture makes a large one
of its verdict (Miyato, Kataoka, Koyama and Yoshida, "Spectral normalization for generative
adversarial networks", 2018, arXiv:1802.05957). It starts late: from a finished run, whose pictures
it begins with. Pixels keep their say. And what is published is the average of the refinement's
weights, as in `fidelity`.

Only the refinement and the discriminator learn; latents, and the memory, stay what they were. So
two models go by two names and share their latents.
"""

import argparse
from collections.abc import Mapping
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
from trainer.export import to_pictures
from trainer.loop import Precision
from trainer.recipes.fidelity import Fidelity, Size, learn, log_error
from trainer.recipes.fidelity_memory import Memory
from trainer.run import fitted_data

_EPOCHS = 1
"""To the four of the training before: the last fifth."""

_RATE = 3e-4
_DISCRIMINATOR_RATE = 3e-4
_DISCRIMINATOR_CHANNELS = (32, 64, 128)

_LOUDNESS = 10.0
"""Of what a picture adds to the memory's: errors of a tenth become as large as pictures."""

_PIXEL_WEIGHT = 1.0
_SIMILARITY_WEIGHT = 1.0
"""Both errors are in decibels: what one of the pixels' is worth in the features'."""

_ADVERSARY_WEIGHT = 0.5
"""Decibels that one more in the verdict is worth. With 2 a grid of patches appeared in skies."""


class Discriminator(nn.Module):
    """Says of every patch of a picture whether it is the film's; and what it saw on the way.

    It is shown what the picture adds to the memory's, made loud, beside the picture itself: that is
    all that film and painted differ in. So it judges pairs (Isola, Zhu, Zhou and Efros,
    "Image-to-image translation with conditional adversarial networks", 2017, arXiv:1611.07004).
    """

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
        self.verdict = spectral_norm(nn.Conv2d(third, 1, 3, padding=1))

    def forward(self, pictures: Tensor, remembered: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return verdicts ``[N, 1, 18, 32]``, above 0 for the film's, and features of each level.

        Args:
            pictures: float32 ``[N, 3, 144, 256]``, about 0 to 1.
            remembered: what the memory makes of them, likewise.
        """
        added = _LOUDNESS * (pictures - remembered)
        seen = F.pixel_unshuffle(torch.cat([2 * pictures - 1, added], 1), 2)
        features = []
        for level in self.levels:
            seen = F.leaky_relu(level(seen), 0.2)
            features.append(seen.float())
        return self.verdict(seen).float(), features


class Perceptual(Fidelity):
    """`Fidelity` whose refinement is also to look like the film to a discriminator."""

    rate = _RATE

    def __init__(
        self, memory: Memory, size: Size, precision: Precision = "fp32", group: Group | None = None
    ) -> None:
        super().__init__(memory, size, precision, group)
        self.discriminator = Discriminator().to(self.group.device)
        self.discriminator_optimiser = torch.optim.Adam(
            self.discriminator.parameters(), lr=_DISCRIMINATOR_RATE, betas=(0.5, 0.99)
        )

    def step(self, frames: Tensor) -> Mapping[str, Tensor]:
        """Learn from one batch; both networks are judged as they stood before it."""
        truth = to_pictures(frames)
        latents, remembered = self._remember(truth)
        painted = self._refined(self.refinement, remembered, latents)

        # The discriminator gets the pictures without their past: its own gradients stop at them.
        seen = painted.detach().requires_grad_()
        with self._autocast(), parametrize.cached():
            real_verdict, real_features = self.discriminator(truth, remembered)
            verdict, features = self.discriminator(seen, remembered)
        unlike = _unlikeness(features, real_features)
        told = F.relu(1 - real_verdict).mean() + F.relu(1 + verdict).mean()

        # Refinement: keep the pixels, be alike, and pass for film.
        wanted = _SIMILARITY_WEIGHT * unlike - _ADVERSARY_WEIGHT * verdict.mean()
        (pull,) = torch.autograd.grad(wanted, [seen], retain_graph=True)
        error = log_error(painted, truth).mean()
        (push,) = torch.autograd.grad(_PIXEL_WEIGHT * error, [painted])
        painted.backward(pull + push)  # type: ignore[no-untyped-call]  # torch's

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


def _unlikeness(painted: list[Tensor], real: list[Tensor]) -> Tensor:
    """Return how far features are from the film's, in decibels: the mean over frames and levels.

    A logarithm minds a dark frame as much as a bright one, and not how loud a level is.
    """
    levels = [
        20 * ((ours - theirs.detach()).abs().mean((1, 2, 3)) + 1e-4).log10()
        for ours, theirs in zip(painted, real, strict=True)
    ]
    return torch.stack(levels).mean()


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
