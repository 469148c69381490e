r"""`broad2016`: the network that dreamed Blade Runner, with its three defects put right.

    python -m trainer train --recipe broad2016 --data DATA --run RUN1 --minutes 60
    python -m trainer train --recipe broad2016 --data DATA --run RUN2 --minutes 60 \
        --training 2 --from RUN1

After Terence Broad, "Autoencoding Video Frames" (Goldsmiths, 2016), and its code,
github.com/terrybroad/Learned-Sim-Autoencoder-For-Video-Frames; the method is that of Larsen,
Sønderby, Larochelle and Winther, "Autoencoding beyond pixels using a learned similarity metric"
(arXiv:1512.09300). What is here was written anew from what they describe.

An encoder turns a frame into a Gaussian over 200 numbers, its mean within a tanh. A decoder paints
a frame from a sample of it. A discriminator learns to tell film frames from painted ones, and what
it sees on the way, at four levels, is what "alike" means: no pixel is ever compared. The noise in
the sample shrinks from training to training, each going on from the weights of the one before.
Its code shows 1 at first, 0.5 as the example of less, and 0 for running; the stages between are
ours.

The published code had three defects. What is done instead is marked below:

- **swapped variables**: the encoder's optimiser was given the decoder's variables and the
  decoder's the encoder's, so nothing the discriminator said ever reached the decoder.
- **variables listed too early**: a list of trainable variables was taken before the decoder had
  been built.
- **batch statistics at inference**: frames were normalised together with whichever frames shared
  their batch, so the same 200 numbers gave different pictures in different company.

Its weights between losses are kept. Initial values, sizes and rates are the published ones.
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
"""How much the decoder minds unlikeness, against fooling the discriminator (the paper's gamma)."""

_ADVERSARY_WEIGHT = 1 / 72
"""The published code divides the adversarial loss by 6 and by its batch of 12."""

_EPOCHS = 5
"""The published code's default."""

_SHOWN_REFERENCE, _SERVED_REFERENCE = 96, 2048
"""Frames over which statistics are measured for a sample grid, and for the model to publish."""

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
        reference: fitted frames over which reconstructions shown during training measure their
            batch normalisations, uint8 [N, 144, 256, 3].
        group: the processes that train together; its device is where the networks live.
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

        # Put right: "swapped variables" and "variables listed too early". Each optimiser takes its
        # network's parameters from the network itself, after all three have been built.
        self.encoder_optimiser = _adam(self.encoder)
        self.decoder_optimiser = _adam(self.decoder)
        self.discriminator_optimiser = _adam(self.discriminator)

    def step(self, frames: Tensor) -> Mapping[str, Tensor]:
        """Learn from one batch; all three networks are judged as they stood before it."""
        encoder, decoder, discriminator = self.encoder, self.decoder, self.discriminator
        for network in (encoder, decoder, discriminator):
            network.train()
        real = from_frames(frames).contiguous(memory_format=torch.channels_last)

        with self._autocast():
            # The film's frames, through 200 noisy numbers and back; and pictures of nothing.
            mean, log_variance = encoder(real)
            noise = self.config.noise * torch.randn_like(mean)
            painted = decoder(mean + (log_variance / 2).exp() * noise)
            invented = decoder(torch.rand_like(mean) * 2 - 1)

            # What the discriminator makes of the three. It gets the pictures without their past,
            # so that its own gradients stop at them.
            painted_seen = painted.detach().requires_grad_()
            invented_seen = invented.detach().requires_grad_()
            real_verdict, real_features = discriminator(real)
            painted_verdict, painted_features = discriminator(painted_seen)
            invented_verdict, _ = discriminator(invented_seen)

        prior = _divergence_from_prior(mean.float(), log_variance.float())
        unlikeness = _unlikeness(painted_features, real_features)
        exposure = (
            _verdict_loss(real_verdict, real=True)
            + _verdict_loss(painted_verdict, real=False)
            + _verdict_loss(invented_verdict, real=False)
        )

        # Discriminator: tell them apart. The same backward pass says how each picture's pixels
        # would make that easier; the decoder will go the other way.
        discriminator_weights = list(discriminator.parameters())
        *discriminator_gradients, painted_exposed, invented_exposed = torch.autograd.grad(
            exposure, [*discriminator_weights, painted_seen, invented_seen], retain_graph=True
        )
        (painted_unlike,) = torch.autograd.grad(unlikeness, [painted_seen])

        # Decoder: be alike, and fool the discriminator. (With "swapped variables" the second half
        # of this went to the encoder.)
        decoder_weights = list(decoder.parameters())
        decoder_gradients = torch.autograd.grad(
            [painted, invented],
            decoder_weights,
            [
                _SIMILARITY_WEIGHT * painted_unlike - _ADVERSARY_WEIGHT * painted_exposed,
                -_ADVERSARY_WEIGHT * invented_exposed,
            ],
            retain_graph=True,
        )

        # Encoder: be alike, and stay near the prior.
        encoder_weights = list(encoder.parameters())
        encoder_gradients = torch.autograd.grad(
            [painted, prior], encoder_weights, [painted_unlike, torch.ones_like(prior)]
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
            "unlikeness": unlikeness.detach(),
            "prior": prior.detach(),
            "exposure": exposure.detach() / 3,
        }

    def reconstruct(self, frames: Tensor) -> Tensor:
        """Return uint8 frames as a model published now would paint them."""
        with torch.no_grad(), self._autocast():
            self._settle(self.reference.to(self.group.device))
            return to_frames((self.decoder(self.encoder(from_frames(frames))[0]) + 1) / 2)

    @torch.no_grad()
    def served(self, reference: Tensor) -> tuple[ServedEncoder, ServedDecoder]:
        """Make the two modules to publish.

        Args:
            reference: fitted frames, evenly spread, uint8 [N, 144, 256, 3]: over them the batch
                normalisations are measured and the whitening of the embeddings is fitted.
        """
        self._settle(reference)
        fewer = reference[:: max(1, len(reference) // REFERENCE_FRAMES)]
        whitening = fit_whitening(self._latents, torch.split(fewer, _STATISTICS_BATCH))
        encoder = ServedEncoder(self.encoder, whitening)
        decoder = ServedDecoder(self.decoder, whitening)
        return encoder.to("cpu"), decoder.to("cpu")

    def _latents(self, frames: Tensor) -> Tensor:
        mean: Tensor = self.encoder(from_frames(frames.to(self.group.device)))[0]
        return mean.float()

    def _settle(self, reference: Tensor) -> None:
        """Fix both networks' statistics.

        Put right: "batch statistics at inference". The decoder is measured as it will be used, on
        the latents of film frames without noise.
        """
        fix_statistics(self.encoder, self._pictures(reference))
        latents = torch.cat([self.encoder(batch)[0] for batch in self._pictures(reference)])
        fix_statistics(self.decoder, torch.split(latents, _STATISTICS_BATCH))

    def _pictures(self, frames: Tensor) -> Iterator[Tensor]:
        # Strided, so that each batch holds frames of the whole film and not of one shot.
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
        """Take back what `state_dict` returned."""
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


def _unlikeness(painted: tuple[Tensor, ...], real: tuple[Tensor, ...]) -> Tensor:
    """Return the mean squared difference of what the discriminator saw, over its four levels."""
    levels = [
        F.mse_loss(ours.float(), theirs.detach().float())
        for ours, theirs in zip(painted, real, strict=True)
    ]
    return torch.stack(levels).mean()


def _verdict_loss(verdict: Tensor, *, real: bool) -> Tensor:
    """Return the binary cross entropy of a verdict whose truth is known."""
    verdict = verdict.float()
    truth = torch.ones_like(verdict) if real else torch.zeros_like(verdict)
    return F.binary_cross_entropy_with_logits(verdict, truth)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be set for this recipe."""
    parser.add_argument("--training", type=int, default=1, choices=range(1, len(NOISE) + 1))
    parser.add_argument("--from", dest="previous", type=Path, metavar="RUN")
    arguments.add_loop_arguments(parser, batch=BATCH, length=f"{_EPOCHS} epochs")


def train(options: argparse.Namespace, channels: Channels = PUBLISHED_CHANNELS) -> None:
    """Run one training, or go on with it, and write the run.

    Args:
        options: what `add_arguments` and the command line take.
        channels: sizes of the networks; other than published only where time is short.

    Raises:
        TrainerError: something asked for does not fit together, or training diverged.
        SystemExit: a signal ended it early; the run goes on when it is started again.
    """
    number: int = options.training
    if (number > 1) != (options.previous is not None):
        raise TrainerError(
            f"training {number} starts from scratch: leave --from out"
            if number == 1
            else f"training {number} goes on from training {number - 1}: say --from ITS_RUN"
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
            _go_on_from(learner, options.previous, number)
        outcome = fit(learner, data, options.run, settings, group, identity)
        if outcome.signal is not None:
            raise SystemExit(128 + outcome.signal)
        if group.leads and not (outcome.rested and Run(options.run).is_finished()):
            _finish(learner, data, options, outcome, group)


def _identity(
    config: Broad2016Config, data: FrameDataset, options: argparse.Namespace
) -> dict[str, str | int | float]:
    """Return what must stay the same for a run to be gone on with."""
    return {
        "recipe": "broad2016",
        "channels": " ".join(map(str, config.channels)),
        "training": options.training,
        "data": data.digest,
        "fit": options.fit,
        "batch": options.batch,
        "seed": options.seed,
    }


def _go_on_from(learner: Broad2016, run: Path, number: int) -> None:
    """Start from the weights, and the optimisers' memory, of the training before."""
    saved = checkpoint.paths(run)
    if not saved:
        raise CheckpointError(f"{run} holds no checkpoint to go on from")
    state = checkpoint.load(saved[-1])
    identity, weights = state.get("identity"), state.get("learner")
    found = identity.get("training") if isinstance(identity, dict) else None
    if found != number - 1 or not isinstance(weights, dict):
        raise CheckpointError(
            f"{run} is training {found}; training {number} goes on from training {number - 1}"
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
