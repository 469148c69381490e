"""`fidelity`: the best picture of a film that 200 numbers a frame carry, from few bytes of model.

    python -m trainer train --recipe fidelity --fit all --data DATA --run RUN --minutes 20
    python -m trainer train --recipe fidelity --size large --fit all --data DATA --run RUN

`--finish perceptual --from RUN` fine-tunes such a run for perceived detail (`perceptual`).

**Memory.** In `pca` one linear basis serves a whole film, and most of its 200 directions are of no
use to most frames. Here a film is split into 16 or 32 segments, each with its own basis. A frame is
encoded by the basis that fits it best: 4 numbers are the basis's key, 196 are coordinates. The
memory is fitted in closed form in minutes, and is the baseline for the refinement (`memory`). The
bases are DCT bins quantized to 0, 4 or 8 bits, as many as the size allows (`packing`).

**Refinement.** A convolutional network gets the memory's picture and the latent, and adds what a
linear model cannot have: sharp edges, and what quantization lost. Its last layer is zero at first,
so training starts at the memory's picture. The loss is the mean over frames of the logarithm of the
squared error, that is, the mean PSNR: a dark frame's error counts as much as a bright one's. The
published weights are an exponential moving average over about a thousand steps, so there is no
schedule, and a run can stop or resume at any time.

**Two trainings.** With `--fit all` the model memorises the film. With `--fit fitted` it must also
generalise to the held-out blocks (`clusters`): one basis is the whole film's, with a prior that
gives every DCT bin some variance of its own, so that it can show what the film did not; the others
are fitted to clusters of similar frames and crops. The refinement is trained on crops as well,
since the memory's pictures of the frames that it was fitted to are too good.
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
from trainer.recipes.fidelity.clusters import fit_clusters, frames_to_cluster
from trainer.recipes.fidelity.crops import random_crops, resize_crops
from trainer.recipes.fidelity.memory import Memory, fit_memory, frames_to_read
from trainer.recipes.fidelity.memory_preview import MemoryPreview
from trainer.recipes.fidelity.networks import KEY_SIZE, Refinement, ServedDecoder, ServedEncoder
from trainer.recipes.fidelity.sizes import SIZES, Size
from trainer.run import Run, fitted_data
from trainer.sampler import spread

BATCH = 16

_RATE = 1e-3
_WHOLE_RATE_UP_TO = 32.0
"""dB. If the memory's pictures are better, the learning rate is scaled by their squared error."""

_RATED_FRAMES = 64
_WARM_STEPS = 100
_AVERAGE = 0.999
_NOISE = 0.02
"""Standard deviation of the noise added to coordinates in training: the rounding of 8 bits."""

_LATENT_SHARE = 0.1
"""Factor of the learning rate for the weights applied to the latent: at the full rate a step
changes their sum of 200 numbers too much, and the PSNR fluctuates by tenths of a decibel."""

_EPOCHS = 4


class Fidelity:
    """The refinement of a fitted memory, as a `Learner` of the training loop.

    Args:
        memory: the fitted memory, which stays fixed.
        size: of the refinement.
        precision: of the refinement in training.
        group: the processes that train together; the networks are on its device.
        unseen: whether to also train for frames that the memory was not fitted to.
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
    def calibrate_rate(self, frames: Tensor) -> None:
        """Scale the learning rate by the memory's error on some frames.

        Adam's steps do not shrink with the error: a step of a grey level helps where the error is
        ten levels and harms where it is one. Measured on the training pictures, crops included.

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
        """Train on one batch."""
        truth = self._truth(frames)
        latents, coarse = self._encode_with_noise(truth)
        refined = self._refined(self.refinement, coarse, latents)
        loss = log_error(refined, truth).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        self._update()
        with torch.no_grad():
            gained = log_error(coarse, truth).mean() - loss
        # In dB, as the metrics.
        return {"psnr": -loss.detach(), "gained": gained}

    def _truth(self, frames: Tensor) -> Tensor:
        """Return the pictures to train on; for unseen frames, half of them crops.

        The memory's pictures of the frames that it was fitted to are far sharper than of others;
        crops are pictures that it was not fitted to.
        """
        pictures = to_pictures(frames)
        if not self.unseen:
            return pictures
        half = len(pictures) // 2
        return torch.cat(
            [pictures[:half], resize_crops(pictures[half:], random_crops(len(frames) - half))]
        )

    def _encode_with_noise(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents with noise on their coordinates, and the memory's pictures of them."""
        with torch.no_grad():
            latents = self.encoder(truth)
            latents[:, KEY_SIZE:] += _NOISE * torch.randn_like(latents[:, KEY_SIZE:])
            return latents, self.decoder(latents)

    def _refined(self, network: Refinement, coarse: Tensor, latents: Tensor) -> Tensor:
        with self._autocast():
            refined: Tensor = network(coarse, latents)
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
        # A short average at first, to forget the initial weights.
        kept = min(_AVERAGE, self.steps / (self.steps + 10))
        with torch.no_grad():
            for ours, theirs in zip(
                self.average.parameters(), self.refinement.parameters(), strict=True
            ):
                ours.lerp_(theirs, 1 - kept)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Load the weights of an earlier refinement."""
        self.refinement.load_state_dict(weights)
        self.average.load_state_dict(weights)

    @torch.no_grad()
    def reconstruct(self, frames: Tensor) -> Tensor:
        """Return the uint8 frames that a model published now would."""
        latents = self.encoder(to_pictures(frames))
        return to_frames(self._refined(self.average, self.decoder(latents), latents))

    @torch.no_grad()
    def served(self, reference: Tensor) -> tuple[ServedEncoder, ServedDecoder]:
        """Make the two modules to publish.

        Args:
            reference: evenly spread frames to fit the whitening of the embeddings to, uint8
                [N, 144, 256, 3].
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
        """Return weights, their average and the optimiser's state; the memory has its own file."""
        return {
            "refinement": self.refinement.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        self.refinement.load_state_dict(cast(dict[str, Tensor], state["refinement"]))
        self.average.load_state_dict(cast(dict[str, Tensor], state["average"]))
        self.optimiser.load_state_dict(cast(dict[str, object], state["optimiser"]))
        self.steps = cast(int, state["steps"])


def _shares(refinement: Refinement) -> list[dict[str, object]]:
    """Return the optimiser's parameter groups, each with its factor of the learning rate."""
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
    # Bounded below by the error of rounding to grey levels.
    error = F.mse_loss(pictures, truth, reduction="none").mean((1, 2, 3)) + 1e-6
    return 10 * error.log10()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this recipe's options."""
    parser.add_argument("--size", choices=sorted(SIZES), default="small", help="default: small")
    parser.add_argument(
        "--finish", choices=("perceptual",), help="fine-tune a finished run for perceived detail"
    )
    parser.add_argument(
        "--from", dest="previous", type=Path, metavar="RUN", help="the finished run"
    )
    add_loop_arguments(parser, batch=BATCH, length=f"{_EPOCHS} epochs")


def train(options: argparse.Namespace) -> None:
    """Fit the memory, train or resume the refinement, and write the run.

    Raises:
        TrainerError: options contradict each other, or training diverged.
        SystemExit: a signal stopped it early; started again, it resumes.
    """
    if options.finish is not None:
        # Imported here, since it imports this module.
        from trainer.recipes.fidelity import perceptual

        perceptual.train(options)
    elif options.previous is not None:
        raise TrainerError("--from needs --finish perceptual: leave it out otherwise")
    else:
        learn(options, fitted_data(options.data, options.fit), Fidelity, _EPOCHS)


def learn(
    options: argparse.Namespace,
    data: FrameDataset,
    kind: type[Fidelity],
    epochs: int,
    start: dict[str, Tensor] | None = None,
) -> None:
    """Fit the memory, train a learner, and write the run.

    Args:
        options: the parsed command line.
        data: the frames.
        kind: the learner's class.
        epochs: default length of the training.
        start: initial weights of the refinement.
    """
    size = SIZES[options.size]
    with process_group(options.device) as group:
        steps = max(1, epochs * len(data.fitted) // (options.batch * group.world))
        memory = _memory(data, size, options, group)
        torch.manual_seed(options.seed)
        precision = precision_on(group.device, options)
        learner = kind(memory, size, precision, group, unseen=options.fit == "fitted")
        learner.calibrate_rate(torch.from_numpy(data.frames(spread(data.fitted, _RATED_FRAMES))))
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
        if group.is_leader and not (outcome.already_done and Run(options.run).is_finished()):
            _finish(learner, data, options, outcome, group)


def _finish_of(options: argparse.Namespace) -> dict[str, str]:
    return {} if options.finish is None else {"finish": options.finish}


def _memory(data: FrameDataset, size: Size, options: argparse.Namespace, group: Group) -> Memory:
    """Load the run's memory; on the first start fit it, or copy it from the run before."""
    run: Path = options.run
    run.mkdir(parents=True, exist_ok=True)
    unseen = options.fit == "fitted"
    memory_size = size.unseen if unseen else size.memory
    path, identity = run / "memory.pt", f"{data.digest} {len(data.fitted)} {memory_size}"
    if path.exists() or not group.is_leader:
        pass
    elif options.previous is not None:
        memory, found = Memory.load(options.previous / path.name)
        memory.save(path, found)
    else:
        frames = frames_to_cluster(data) if unseen else frames_to_read(data, memory_size)
        with Counter("memory", frames) as counter:
            preview = MemoryPreview(run, data, counter.show_preview)
            find = fit_clusters if unseen else fit_memory
            memory = find(data, memory_size, counter.advance, preview.on_basis)
            preview.end(memory)
            memory.save(path, identity)
    group.max_over_processes([0])  # the others wait here
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
