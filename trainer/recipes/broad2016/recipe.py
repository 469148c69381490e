r"""`broad2016`: the network that dreamed Blade Runner, with its three defects fixed.

    python -m trainer train --recipe broad2016 --data DATA --run RUN1 --minutes 60
    python -m trainer train --recipe broad2016 --data DATA --run RUN2 --minutes 60 \
        --training 2 --from RUN1

After Terence Broad, "Autoencoding Video Frames" (Goldsmiths, 2016), and its code,
github.com/terrybroad/Learned-Sim-Autoencoder-For-Video-Frames; the method is that of Larsen,
Sønderby, Larochelle and Winther, "Autoencoding beyond pixels using a learned similarity metric"
(arXiv:1512.09300). This is a new implementation from their descriptions.

An encoder maps a frame to a Gaussian over 200 numbers, with a tanh mean. A decoder generates a
frame from a sample of it. A discriminator learns to tell film frames from generated ones, and its
features at four levels are the similarity metric: pixels are never compared. The noise in the
sample decreases from training to training, each starting from the weights of the one before. The
published code has 1 at first, 0.5 as an example of less, and 0 for running; the stages between are
ours.

The published code had three defects; the fixes are marked below:

- **swapped variables**: the encoder's optimiser got the decoder's variables and vice versa, so the
  discriminator's gradient never reached the decoder.
- **variables listed too early**: the trainable variables were listed before the decoder was built.
- **batch statistics at inference**: frames were normalised by the statistics of their batch, so the
  same 200 numbers gave different pictures in different batches.

Loss weights, initial values, sizes and rates are the published ones.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer import checkpoint
from trainer.checkpoint import CheckpointError, State
from trainer.dataset import FrameDataset
from trainer.distributed import Group, process_group
from trainer.embedding import REFERENCE_FRAMES, fit_whitening
from trainer.errors import TrainerError
from trainer.export import to_frames
from trainer.loop import Outcome, Precision, fit
from trainer.recipes import arguments
from trainer.recipes.broad2016.networks import (
    PUBLISHED_CHANNELS,
    Channels,
    Decoder,
    Discriminator,
    Encoder,
    ServedDecoder,
    ServedEncoder,
    fix_statistics,
    from_frames,
    initialise,
)
from trainer.run import Run, fitted_data
from trainer.sampler import spread

NOISE = (1.0, 0.5, 0.25, 0.1, 0.05, 0.0)
"""Standard deviation of the noise in the latent, for trainings 1 to 6."""

BATCH = 12

_SIMILARITY_WEIGHT = 2.5
"""Weight of the similarity loss against the adversarial loss in the decoder (the paper's gamma)."""

_ADVERSARY_WEIGHT = 1 / 72
"""The published code divides the adversarial loss by 6 and by its batch of 12."""

_EPOCHS = 5
"""The published code's default."""

_SHOWN_REFERENCE, _SERVED_REFERENCE = 96, 2048
"""Frames over which statistics are measured: for a sample grid, and for the published model."""

_STATISTICS_BATCH = 32


@dataclass(frozen=True, slots=True)
class Broad2016Config:
    """What may differ between two models of this recipe."""

    noise: float = NOISE[0]
    channels: Channels = PUBLISHED_CHANNELS
    precision: Precision = "fp32"


class Broad2016:
    """Three networks, three optimisers, and the step that trains them against each other.

    Args:
        config: sizes, noise, precision.
        reference: fitted frames for the batch norm statistics of the reconstructions shown during
            training, uint8 [N, 144, 256, 3].
        group: the processes that train together; the networks are on its device.
    """

    def __init__(
        self, config: Broad2016Config, reference: Tensor, group: Group | None = None
    ) -> None:
        self.config = config
        self.group = group or Group()
        self.reference = reference
        device = self.group.device
        self.encoder = Encoder(config.channels)
        self.decoder = Decoder(config.channels)
        self.discriminator = Discriminator(config.channels)
        for network in (self.encoder, self.decoder, self.discriminator):
            initialise(network)
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs

        # Fixes "swapped variables" and "variables listed too early": each optimiser takes the
        # parameters of its own network, after all three were built.
        self.encoder_optimiser = _adam(self.encoder)
        self.decoder_optimiser = _adam(self.decoder)
        self.discriminator_optimiser = _adam(self.discriminator)

    def step(self, frames: Tensor) -> Mapping[str, Tensor]:
        """Train on one batch; all three gradients are computed before any update."""
        encoder, decoder, discriminator = self.encoder, self.decoder, self.discriminator
        for network in (encoder, decoder, discriminator):
            network.train()
        real = from_frames(frames).contiguous(memory_format=torch.channels_last)

        with self._autocast():
            # The film's frames through 200 noisy numbers and back; and samples from the prior.
            mean, log_variance = encoder(real)
            noise = self.config.noise * torch.randn_like(mean)
            generated = decoder(mean + (log_variance / 2).exp() * noise)
            sampled = decoder(torch.rand_like(mean) * 2 - 1)

            # The discriminator gets detached pictures, so that its own gradients stop there.
            generated_detached = generated.detach().requires_grad_()
            sampled_detached = sampled.detach().requires_grad_()
            real_logits, real_features = discriminator(real)
            generated_logits, generated_features = discriminator(generated_detached)
            sampled_logits, _ = discriminator(sampled_detached)

        prior = _divergence_from_prior(mean.float(), log_variance.float())
        similarity_loss = _feature_distance(generated_features, real_features)
        discriminator_loss = (
            _discriminator_loss(real_logits, real=True)
            + _discriminator_loss(generated_logits, real=False)
            + _discriminator_loss(sampled_logits, real=False)
        )

        # Discriminator: tell them apart. The same backward pass gives the pixels' gradients, which
        # the decoder follows in the opposite direction.
        discriminator_weights = list(discriminator.parameters())
        *discriminator_gradients, generated_gradient, sampled_gradient = torch.autograd.grad(
            discriminator_loss,
            [*discriminator_weights, generated_detached, sampled_detached],
            retain_graph=True,
        )
        (similarity_gradient,) = torch.autograd.grad(similarity_loss, [generated_detached])

        # Decoder: be similar, and fool the discriminator. (With "swapped variables" the second half
        # of this went to the encoder.)
        decoder_weights = list(decoder.parameters())
        decoder_gradients = torch.autograd.grad(
            [generated, sampled],
            decoder_weights,
            [
                _SIMILARITY_WEIGHT * similarity_gradient - _ADVERSARY_WEIGHT * generated_gradient,
                -_ADVERSARY_WEIGHT * sampled_gradient,
            ],
            retain_graph=True,
        )

        # Encoder: be similar, and stay near the prior.
        encoder_weights = list(encoder.parameters())
        encoder_gradients = torch.autograd.grad(
            [generated, prior], encoder_weights, [similarity_gradient, torch.ones_like(prior)]
        )

        weights = [*encoder_weights, *decoder_weights, *discriminator_weights]
        gradients = [*encoder_gradients, *decoder_gradients, *discriminator_gradients]
        self.group.average(gradients)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        for optimiser in self._optimisers().values():
            optimiser.step()
            optimiser.zero_grad()
        return {
            "similarity": similarity_loss.detach(),
            "prior": prior.detach(),
            "discriminator": discriminator_loss.detach() / 3,
        }

    def reconstruct(self, frames: Tensor) -> Tensor:
        """Return the uint8 frames that a model published now would."""
        with torch.no_grad(), self._autocast():
            self._fix_statistics(self.reference.to(self.group.device))
            return to_frames((self.decoder(self.encoder(from_frames(frames))[0]) + 1) / 2)

    @torch.no_grad()
    def served(self, reference: Tensor) -> tuple[ServedEncoder, ServedDecoder]:
        """Make the two modules to publish.

        Args:
            reference: fitted frames, evenly spread, uint8 [N, 144, 256, 3], for the batch norm
                statistics and the whitening of the embeddings.
        """
        self._fix_statistics(reference)
        fewer = reference[:: max(1, len(reference) // REFERENCE_FRAMES)]
        whitening = fit_whitening(self._latents, torch.split(fewer, _STATISTICS_BATCH))
        encoder = ServedEncoder(self.encoder, whitening)
        decoder = ServedDecoder(self.decoder, whitening)
        return encoder.to("cpu"), decoder.to("cpu")

    def _latents(self, frames: Tensor) -> Tensor:
        mean: Tensor = self.encoder(from_frames(frames.to(self.group.device)))[0]
        return mean.float()

    def _fix_statistics(self, reference: Tensor) -> None:
        """Fix both networks' statistics, which fixes "batch statistics at inference".

        The decoder's are measured as it is used: on latents of film frames without noise.
        """
        fix_statistics(self.encoder, self._pictures(reference))
        latents = torch.cat([self.encoder(batch)[0] for batch in self._pictures(reference)])
        fix_statistics(self.decoder, torch.split(latents, _STATISTICS_BATCH))

    def _pictures(self, frames: Tensor) -> Iterator[Tensor]:
        # Strided, so that each batch has frames of the whole film and not of one shot.
        count = max(1, len(frames) // _STATISTICS_BATCH)
        for first in range(count):
            part = frames[first::count].to(self.group.device)
            yield from_frames(part).contiguous(memory_format=torch.channels_last)

    def state_dict(self) -> State:
        """Return the weights of the three networks and the states of their optimisers."""
        networks = {name: network.state_dict() for name, network in self._networks().items()}
        optimisers = {name: each.state_dict() for name, each in self._optimisers().items()}
        return {**networks, **optimisers}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        for name, network in self._networks().items():
            network.load_state_dict(cast(dict[str, Tensor], state[name]))
        for name, optimiser in self._optimisers().items():
            optimiser.load_state_dict(cast(dict[str, object], state[name]))

    def _networks(self) -> dict[str, nn.Module]:
        return {
            "encoder": self.encoder,
            "decoder": self.decoder,
            "discriminator": self.discriminator,
        }

    def _optimisers(self) -> dict[str, torch.optim.Adam]:
        return {
            "encoder_optimiser": self.encoder_optimiser,
            "decoder_optimiser": self.decoder_optimiser,
            "discriminator_optimiser": self.discriminator_optimiser,
        }

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(
            self.group.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        )


def _adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True)


def _divergence_from_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the KL divergence of the posteriors from N(0, 1), the mean over frames and numbers."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()


def _feature_distance(generated: tuple[Tensor, ...], real: tuple[Tensor, ...]) -> Tensor:
    """Return the mean squared difference of the discriminator's features over its four levels."""
    levels = [
        F.mse_loss(ours.float(), theirs.detach().float())
        for ours, theirs in zip(generated, real, strict=True)
    ]
    return torch.stack(levels).mean()


def _discriminator_loss(logits: Tensor, *, real: bool) -> Tensor:
    """Return the binary cross entropy of the discriminator's logits."""
    logits = logits.float()
    truth = torch.ones_like(logits) if real else torch.zeros_like(logits)
    return F.binary_cross_entropy_with_logits(logits, truth)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this recipe's options."""
    parser.add_argument("--training", type=int, default=1, choices=range(1, len(NOISE) + 1))
    parser.add_argument("--from", dest="previous", type=Path, metavar="RUN")
    arguments.add_loop_arguments(parser, batch=BATCH, length=f"{_EPOCHS} epochs")


def train(options: argparse.Namespace, channels: Channels = PUBLISHED_CHANNELS) -> None:
    """Run or resume one training, and write the run.

    Args:
        options: the parsed command line.
        channels: sizes of the networks; tests use smaller ones.

    Raises:
        TrainerError: options contradict each other, or training diverged.
        SystemExit: a signal stopped it early; started again, it resumes.
    """
    number: int = options.training
    if (number > 1) != (options.previous is not None):
        raise TrainerError(
            f"training {number} starts from scratch: leave --from out"
            if number == 1
            else f"training {number} starts from training {number - 1}: pass --from ITS_RUN"
        )
    data = fitted_data(options.data, options.fit)
    with process_group(options.device) as group:
        default_steps = max(1, _EPOCHS * len(data.fitted) // (options.batch * group.world))
        settings = arguments.loop_settings(options, default_steps)
        precision = arguments.precision_on(group.device, options)
        config = Broad2016Config(NOISE[number - 1], channels, precision)
        identity = _identity(config, data, options)
        torch.manual_seed(options.seed)
        learner = Broad2016(config, _reference(data, _SHOWN_REFERENCE), group)
        if options.previous is not None and not checkpoint.paths(options.run):
            _start_from(learner, options.previous, number)
        outcome = fit(learner, data, options.run, settings, group, identity)
        if outcome.signal is not None:
            raise SystemExit(128 + outcome.signal)
        if group.is_leader and not (outcome.already_done and Run(options.run).is_finished()):
            _finish(learner, data, options, outcome, group)


def _identity(
    config: Broad2016Config, data: FrameDataset, options: argparse.Namespace
) -> dict[str, str | int | float]:
    """Return what must stay the same for a run to be resumed."""
    return {
        "recipe": "broad2016",
        "channels": " ".join(map(str, config.channels)),
        "training": options.training,
        "data": data.digest,
        "fit": options.fit,
        "batch": options.batch,
        "seed": options.seed,
    }


def _start_from(learner: Broad2016, run: Path, number: int) -> None:
    """Load the weights and optimiser states of the training before."""
    saved = checkpoint.paths(run)
    if not saved:
        raise CheckpointError(f"{run} holds no checkpoint to start from")
    state = checkpoint.load(saved[-1])
    identity, weights = state.get("identity"), state.get("learner")
    found = identity.get("training") if isinstance(identity, dict) else None
    if found != number - 1 or not isinstance(weights, dict):
        raise CheckpointError(
            f"{run} is training {found}; training {number} starts from training {number - 1}"
        )
    learner.load_state_dict(weights)


def _reference(data: FrameDataset, count: int) -> Tensor:
    return torch.from_numpy(data.frames(spread(data.fitted, count)))


def _finish(
    learner: Broad2016,
    data: FrameDataset,
    options: argparse.Namespace,
    outcome: Outcome,
    group: Group,
) -> None:
    encoder, decoder = learner.served(_reference(data, _SERVED_REFERENCE))
    Run(options.run).finish(
        encoder,
        decoder,
        recipe="broad2016",
        settings={
            "training": options.training,
            "noise": learner.config.noise,
            **arguments.loop_facts(options, group),
        },
        data=data,
        training={
            "steps": outcome.step,
            "frames_seen": outcome.seen,
            "seconds": round(outcome.seconds, 1),
            "losses": outcome.losses,
        },
    )
