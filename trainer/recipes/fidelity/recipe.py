"""`fidelity`: the best picture of a film that 200 numbers a frame carry, from few bytes of model.

    python -m trainer train --recipe fidelity --fit all --data DATA --run RUN --minutes 20
    python -m trainer train --recipe fidelity --size large --fit all --data DATA --run RUN

`--finish perceptual --from RUN` goes on from such a run for the eye (`fidelity_perceptual`).

**Memory.** One linear basis must do for a whole film in `pca`, and most of its 200 directions are
of no use to most frames. Here a film is cut into stretches, 16 or 32, each with a basis of its own.
A frame is encoded by the one that suits it: 4 numbers say which, 196 are its coordinates. Nothing
of this is learned by descent; it takes minutes, and is the floor that the rest starts from
(`fidelity_memory`). The bases are DCT bins of 0, 4 or 8 bits, as many as the size allows
(`fidelity_packing`).

**Refinement.** A convolutional network sees the memory's picture and the latent, and adds what a
sum of directions cannot have: edges that are sharp, and what packing took away. Its last layer
begins at zero, so training begins at the memory's picture. It minimises the mean over frames of
the logarithm of the squared error, which is the mean PSNR itself: a dark frame's error counts as
much as a bright one's. What is published is an average of its weights over the last thousand steps
or so, so that there is no schedule and a run can end, or go on, at any time.

**Two trainings.** With `--fit all` the film itself is what is remembered. With `--fit fitted` the
held-out blocks are to be shown as well as the rest (`fidelity_kinds`). There one basis is the whole
film's, with a prior that gives every DCT bin some variance of its own, so that it can show what the
film did not (Sintel's dragon through a rabbit's memory); the others are of kinds of pictures,
wherever in the film they are: frames and enlarged parts of them. The refinement learns from parts
as well: what the memory makes of frames that it was fitted to is too good to learn from alone.
"""

import argparse
import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.checkpoint import State
from trainer.counter import Counter
from trainer.dataset import FrameDataset
from trainer.distributed import Group, process_group
from trainer.embedding import REFERENCE_FRAMES, fit_whitening
from trainer.errors import RunError, TrainerError
from trainer.export import to_frames, to_pictures
from trainer.loop import Outcome, Precision, fit
from trainer.recipes.arguments import (
    add_loop_arguments,
    loop_facts,
    loop_settings,
    precision_on,
)
from trainer.recipes.fidelity.kinds import fit_kinds, frames_to_group
from trainer.recipes.fidelity.memory import Memory, fit_memory, frames_to_read
from trainer.recipes.fidelity.networks import KEY_SIZE, Refinement, ServedDecoder, ServedEncoder
from trainer.recipes.fidelity.parts import choose_parts, enlarge
from trainer.recipes.fidelity.preview import MemoryPreview
from trainer.recipes.fidelity.sizes import SIZES, Size
from trainer.run import Run, fitted_data
from trainer.sampler import spread

BATCH = 16

_RATE = 1e-3
_WHOLE_RATE_UP_TO = 32.0
"""dB. Where the memory's pictures are better, the rate follows their squared error."""

_RATED_FRAMES = 64
_WARM_STEPS = 100
_AVERAGE = 0.999
_NOISE = 0.02
"""Of the coordinates' spread, added to latents while training: what 8 bits a number round away."""

_LATENT_SHARE = 0.1
"""Of the rate, for weights that 200 numbers of unit variance are summed by: at the whole rate a
step changes their sum by more than all else, and pictures waver by tenths of a decibel."""

_EPOCHS = 4


class Fidelity:
    """The refinement of a fitted memory's pictures, as the training loop wants it.

    Args:
        memory: what was fitted; it does not change.
        size: of the refinement.
        precision: of the refinement while it trains.
        group: the processes that train together; its device is where the networks live.
        unseen: whether it is to refine frames that the memory was not fitted to.
    """

    def __init__(
        self,
        memory: Memory,
        size: Size,
        precision: Precision = "fp32",
        group: Group | None = None,
        *,
        unseen: bool = False,
    ) -> None:
        self.memory = memory
        self.unseen = unseen
        self.precision = precision
        self.group = group or Group()
        device = self.group.device
        self.encoder = memory.encoder().to(device)
        self.decoder = memory.decoder().to(device)
        self.refinement = Refinement(size.channels, size.blocks).to(device)
        self.refinement.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.average = copy.deepcopy(self.refinement).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            _shares(self.refinement), lr=_RATE, betas=(0.9, 0.99), weight_decay=1e-4
        )
        self.rate = _RATE
        self.steps = 0

    @torch.no_grad()
    def settle_rate(self, frames: Tensor) -> None:
        """Learn at a rate that suits what the memory leaves to learn, by some of its frames.

        Adam's steps are as long, however small the error: what moves pictures by a grey level does
        good where ten are missing and harm where one is. What counts is what will be learned from,
        for frames unseen parts as well.

        Args:
            frames: uint8 ``[N, 144, 256, 3]``.
        """
        errors = []
        for part in torch.split(frames, BATCH):
            truth = self._truth(part.to(self.group.device))
            errors.append(log_error(self.decoder(self.encoder(truth)), truth))
        over = float(torch.cat(errors).mean()) + _WHOLE_RATE_UP_TO
        self.rate = _RATE * min(1.0, 10 ** (over / 10))

    def step(self, frames: Tensor) -> Mapping[str, Tensor]:
        """Learn from one batch."""
        truth = self._truth(frames)
        latents, remembered = self._remember(truth)
        painted = self._refined(self.refinement, remembered, latents)
        loss = log_error(painted, truth).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        self._update()
        with torch.no_grad():
            gained = log_error(remembered, truth).mean() - loss
        # In decibels, as the measures have it.
        return {"psnr": -loss.detach(), "gained": gained}

    def _truth(self, frames: Tensor) -> Tensor:
        """Return the pictures to learn from.

        What the memory makes of the frames that it was fitted to is far sharper than what it makes
        of others; parts of them, enlarged, are pictures that it never saw. So half are those.
        """
        pictures = to_pictures(frames)
        if not self.unseen:
            return pictures
        half = len(pictures) // 2
        return torch.cat(
            [pictures[:half], enlarge(pictures[half:], choose_parts(len(frames) - half))]
        )

    def _remember(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents, with a little noise on their coordinates, and the memory's pictures."""
        with torch.no_grad():
            latents = self.encoder(truth)
            latents[:, KEY_SIZE:] += _NOISE * torch.randn_like(latents[:, KEY_SIZE:])
            return latents, self.decoder(latents)

    def _refined(self, network: Refinement, remembered: Tensor, latents: Tensor) -> Tensor:
        with self._autocast():
            refined: Tensor = network(remembered, latents)
        return refined.float()

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(
            self.group.device.type, torch.bfloat16, enabled=self.precision == "bf16"
        )

    def _update(self) -> None:
        parameters = [each for each in self.refinement.parameters() if each.grad is not None]
        self.group.average([cast(Tensor, each.grad) for each in parameters])
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        self.steps += 1
        for settings in self.optimiser.param_groups:
            settings["lr"] = settings["share"] * self.rate * min(1.0, self.steps / _WARM_STEPS)
        self.optimiser.step()
        self.optimiser.zero_grad()
        # Short at first, or the average would long remember the beginning.
        kept = min(_AVERAGE, self.steps / (self.steps + 10))
        with torch.no_grad():
            for ours, theirs in zip(
                self.average.parameters(), self.refinement.parameters(), strict=True
            ):
                ours.lerp_(theirs, 1 - kept)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with a refinement that has learned before."""
        self.refinement.load_state_dict(weights)
        self.average.load_state_dict(weights)

    @torch.no_grad()
    def reconstruct(self, frames: Tensor) -> Tensor:
        """Return uint8 frames as a model published now would paint them."""
        latents = self.encoder(to_pictures(frames))
        return to_frames(self._refined(self.average, self.decoder(latents), latents))

    @torch.no_grad()
    def served(self, reference: Tensor) -> tuple[ServedEncoder, ServedDecoder]:
        """Make the two modules to publish.

        Args:
            reference: frames over which the whitening of the embeddings is fitted, evenly spread,
                uint8 [N, 144, 256, 3].
        """
        encoder, common = self.memory.encoder(), self.memory.common()
        whitening = fit_whitening(
            lambda frames: common(encoder(to_pictures(frames))), torch.split(reference, 64)
        )
        refinement = copy.deepcopy(self.average).to("cpu")
        return (
            ServedEncoder(encoder, common, whitening),
            ServedDecoder(self.memory.decoder(), refinement, common, whitening),
        )

    def state_dict(self) -> State:
        """Return weights, their average and the optimiser's state; the memory has a file."""
        return {
            "refinement": self.refinement.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: State) -> None:
        """Take back what `state_dict` returned."""
        self.refinement.load_state_dict(cast(dict[str, Tensor], state["refinement"]))
        self.average.load_state_dict(cast(dict[str, Tensor], state["average"]))
        self.optimiser.load_state_dict(cast(dict[str, object], state["optimiser"]))
        self.steps = cast(int, state["steps"])


def _shares(refinement: Refinement) -> list[dict[str, object]]:
    """Return the optimiser's groups, with the share of the rate that each learns at."""
    named = list(refinement.named_parameters())
    return [
        {
            "params": [each for name, each in named if ("condition" in name) == latent],
            "share": share,
        }
        for latent, share in ((False, 1.0), (True, _LATENT_SHARE))
    ]


def log_error(pictures: Tensor, truth: Tensor) -> Tensor:
    """Return each frame's squared error in decibels, ``[N]``: the PSNR's negative."""
    # No error is smaller than what rounding to grey levels leaves.
    error = F.mse_loss(pictures, truth, reduction="none").mean((1, 2, 3)) + 1e-6
    return 10 * error.log10()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be set for this recipe."""
    parser.add_argument("--size", choices=sorted(SIZES), default="small", help="default: small")
    parser.add_argument(
        "--finish", choices=("perceptual",), help="go on from a finished run, for the eye"
    )
    parser.add_argument("--from", dest="previous", type=Path, metavar="RUN", help="that run")
    add_loop_arguments(parser, batch=BATCH, length=f"{_EPOCHS} epochs")


def train(options: argparse.Namespace) -> None:
    """Fit the memory, train the refinement, or go on with it, and write the run.

    Raises:
        TrainerError: something asked for does not fit together, or training diverged.
        SystemExit: a signal ended it early; the run goes on when it is started again.
    """
    if options.finish is not None:
        # Imported here, for it stands on this module.
        from trainer.recipes.fidelity import perceptual

        perceptual.train(options)
    elif options.previous is not None:
        raise TrainerError("--from goes with --finish perceptual: without one, leave it out")
    else:
        learn(options, fitted_data(options.data, options.fit), Fidelity, _EPOCHS)


def learn(
    options: argparse.Namespace,
    data: FrameDataset,
    kind: type[Fidelity],
    epochs: int,
    start: dict[str, Tensor] | None = None,
) -> None:
    """Do what `train` does.

    Args:
        options: what was asked for.
        data: the frames.
        kind: what learns.
        epochs: how long, when nothing was said of it.
        start: weights of the refinement that a new run begins with.
    """
    size = SIZES[options.size]
    with process_group(options.device) as group:
        steps = max(1, epochs * len(data.fitted) // (options.batch * group.world))
        memory = _memory(data, size, options, group)
        torch.manual_seed(options.seed)
        precision = precision_on(group.device, options)
        learner = kind(memory, size, precision, group, unseen=options.fit == "fitted")
        learner.settle_rate(torch.from_numpy(data.frames(spread(data.fitted, _RATED_FRAMES))))
        if start is not None:
            learner.start_from(start)
        identity = {
            "recipe": "fidelity",
            "size": options.size,
            "data": data.digest,
            "fit": options.fit,
            "batch": options.batch,
            "seed": options.seed,
            **_finish_of(options),
        }
        settings = loop_settings(options, steps)
        outcome = fit(learner, data, options.run, settings, group, identity)
        if outcome.signal is not None:
            raise SystemExit(128 + outcome.signal)
        if group.leads and not (outcome.rested and Run(options.run).is_finished()):
            _finish(learner, data, options, outcome, group)


def _finish_of(options: argparse.Namespace) -> dict[str, str]:
    return {} if options.finish is None else {"finish": options.finish}


def _memory(data: FrameDataset, size: Size, options: argparse.Namespace, group: Group) -> Memory:
    """Fit the memory, or take over that of the run before, once a run: it is kept beside it."""
    run: Path = options.run
    run.mkdir(parents=True, exist_ok=True)
    unseen = options.fit == "fitted"
    room = size.unseen if unseen else size.memory
    path, identity = run / "memory.pt", f"{data.digest} {len(data.fitted)} {room}"
    if path.exists() or not group.leads:
        pass
    elif options.previous is not None:
        memory, found = Memory.load(options.previous / path.name)
        memory.save(path, found)
    else:
        frames = frames_to_group(data) if unseen else frames_to_read(data, room)
        with Counter("memory", frames) as counter:
            preview = MemoryPreview(run, data, counter.show_preview)
            find = fit_kinds if unseen else fit_memory
            memory = find(data, room, counter.advance, preview.grown)
            preview.end(memory)
            memory.save(path, identity)
    group.largest([0])  # the others wait here
    memory, found = Memory.load(path)
    if found != identity:
        raise RunError(
            f"{run} holds a memory of other frames or another size: choose another --run, or the "
            "same data and settings"
        )
    return memory


def _finish(
    learner: Fidelity,
    data: FrameDataset,
    options: argparse.Namespace,
    outcome: Outcome,
    group: Group,
) -> None:
    reference = torch.from_numpy(data.frames(spread(data.fitted, REFERENCE_FRAMES)))
    encoder, decoder = learner.served(reference)
    Run(options.run).finish(
        encoder,
        decoder,
        recipe="fidelity",
        settings={
            "size": options.size,
            **_finish_of(options),
            "bases": len(learner.memory.bases),
            **loop_facts(options, group),
        },
        data=data,
        training={
            "steps": outcome.step,
            "frames_seen": outcome.seen,
            "seconds": round(outcome.seconds, 1),
            "losses": outcome.losses,
        },
    )
