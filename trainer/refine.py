"""Refines an encoder's latents by a few gradient steps on each, through the frozen decoder.

    python -m trainer refine --run runs/film --data data/film --out refined/film --steps 100

The method is that of Campos, Meierhans, Djelouah and Schroers, "Content Adaptive Optimization for
Neural Image Compression" (arXiv:1906.01223).

The loss is the squared error of the served picture: clipped, but not rounded, so that it has a
gradient. Each frame keeps the best latent tried, the encoder's included, measured on the rounded
frame, so no frame gets worse. With `bits`, only quantized latents are tried (see
`trainer.quantize`), with a straight-through gradient.

Writes latents.npy (float32 ``[N, 200]``, in the data set's order) and, last, metrics.json. Frames
are streamed; only the latents, 800 bytes a frame, are held in memory.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.card import digest_of
from trainer.dataset import FrameDataset
from trainer.durable import sync
from trainer.errors import DatasetError, TrainerError
from trainer.evaluate import Model, groups_of
from trainer.export import LATENT_SIZE, load_torchscript, pictures_of, to_frames
from trainer.frame_metrics import psnr, summary
from trainer.quantize import Ranges
from trainer.run import write_json

LATENTS_FILE, METRICS_FILE = "latents.npy", "metrics.json"

_RATE = 0.1
"""Adam's initial learning rate, in each number's standard deviation over the film; cosine decay."""

OnFrames = Callable[[int], None]
Pictures = Callable[[Tensor], Tensor]
Quantize = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class RefineSettings:
    """How to refine."""

    steps: int = 100
    """Gradient steps on each latent."""
    batch: int = 64
    """Frames at once; affects only the speed."""
    bits: int | None = None
    """Quantize latents to ``2**bits`` levels over the range of the encoder's latents."""


@dataclass(frozen=True, slots=True)
class Refined:
    """The result for a batch."""

    latents: Tensor
    """The best of each frame, float32 ``[N, 200]``."""
    before: Tensor
    """PSNR with the encoder's latents (quantized if `latents` are), dB ``[N]``."""
    after: Tensor
    """PSNR with `latents`, dB ``[N]``; never lower."""


def refine(
    model: Model, data: FrameDataset, out: Path, settings: RefineSettings, on_frames: OnFrames
) -> dict[str, object]:
    """Refine the latents of a data set's frames, on a GPU if available.

    Args:
        model: The pair.
        data: The frames.
        out: Folder to write into; replaces an earlier refinement when done.
        settings: How.
        on_frames: Called with the number of frames just processed; each frame counts twice.

    Returns:
        What `metrics.json` says.

    Raises:
        ContractError: The pair cannot be loaded, or the decoder does not export `pictures`.
        DatasetError: The data set is empty or damaged.
        TrainerError: The folder holds something else, or the bits are not between 1 and 16.
    """
    if not len(data):
        raise DatasetError("There is no frame to refine: the data set is empty")
    if (out / METRICS_FILE).exists() and not (out / LATENTS_FILE).exists():
        raise TrainerError(f"{out} already holds other metrics: name another folder")
    began = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = load_torchscript(model.encoder).to(device)
    decoder = load_torchscript(model.decoder).to(device)
    pictures = pictures_of(decoder)

    latents = np.empty((len(data), LATENT_SIZE), np.float32)
    ranges = Ranges()
    for rows, frames in _batches(data, settings.batch, device):
        with torch.inference_mode():
            guessed: Tensor = encoder(frames)[0]
        ranges.update(guessed)
        latents[rows] = guessed.cpu().numpy()
        on_frames(len(frames))
    spread = torch.from_numpy(latents.std(0)).to(device)
    quantize = _identity if settings.bits is None else ranges.quantizer(settings.bits)

    before, after = np.empty(len(data)), np.empty(len(data))
    for rows, frames in _batches(data, settings.batch, device):
        start = torch.from_numpy(latents[rows]).to(device)
        refined = refine_batch(pictures, frames, start, spread, settings.steps, quantize)
        latents[rows] = refined.latents.cpu().numpy()
        before[rows], after[rows] = refined.before.cpu().numpy(), refined.after.cpu().numpy()
        on_frames(len(frames))

    metrics = {
        "model": {
            "label": model.label,
            "recipe": model.card["recipe"],
            "digest": digest_of(model.encoder, model.decoder),
        },
        "data": {"digest": data.digest, "sampling": data.sampling},
        "settings": {
            "steps": settings.steps,
            "batch": settings.batch,
            "bits": settings.bits,
            "device": device.type,
        },
        "groups": _groups(model, data, before, after),
        "seconds": round(time.monotonic() - began, 1),
    }
    _write(out, latents, metrics)
    return metrics


def refine_batch(
    pictures: Pictures,
    frames: Tensor,
    start: Tensor,
    spread: Tensor,
    steps: int,
    quantize: Quantize,
) -> Refined:
    """Refine the latents of a batch of frames, each independently.

    Args:
        pictures: The decoder's `pictures` (see `trainer.export`).
        frames: The targets, uint8 ``[N, 144, 256, 3]``.
        start: The encoder's latents, float32 ``[N, 200]``.
        spread: Each number's standard deviation over the film, float32 ``[200]``; the steps' unit.
        steps: How many gradient steps.
        quantize: Rounds latents to those that may be kept.
    """
    source = frames.permute(0, 3, 1, 2).float()
    moved = torch.zeros_like(start)  # in units of the spread
    optimiser = torch.optim.Adam([moved], lr=_RATE)
    best = start
    before = highest = torch.full_like(start[:, 0], -math.inf)
    for step in range(steps + 1):
        tried = quantize(start + spread * moved).requires_grad_()
        shown = pictures(tried)
        now = psnr(frames, to_frames(shown.detach()))
        best = torch.where((now > highest)[:, None], tried.detach(), best)
        highest = torch.maximum(now, highest)
        if step == 0:
            before = now
        if step == steps:
            break

        # The sum over frames keeps them independent; in grey levels, so that Adam's epsilon is
        # small beside any gradient that matters.
        loss = (255.0 * shown.clamp(0.0, 1.0) - source).square().mean((1, 2, 3)).sum()
        (gradient,) = torch.autograd.grad(loss, [tried])
        moved.grad = spread * gradient
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (1 + math.cos(math.pi * step / steps)) / 2
        optimiser.step()
    return Refined(best, before, highest)


def _identity(latents: Tensor) -> Tensor:
    return latents


def _batches(
    data: FrameDataset, batch: int, device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    for first in range(0, len(data), batch):
        rows = slice(first, min(first + batch, len(data)))
        frames = data.frames(np.arange(rows.start, rows.stop, dtype=np.int64))
        yield rows, torch.from_numpy(frames).to(device)


def _groups(
    model: Model, data: FrameDataset, before: NDArray[np.float64], after: NDArray[np.float64]
) -> dict[str, object]:
    """Summarise the frames by group, as `trainer.evaluate` does."""
    everything = np.arange(len(data), dtype=np.int64)
    return {
        name: {
            "frames": int(chosen.sum()),
            "psnr_before": _rounded(before[chosen]),
            "psnr_after": _rounded(after[chosen]),
            "share_improved": round(float((after > before)[chosen].mean()), 4),
        }
        for name, chosen in groups_of(model.card, data, everything).items()
        if chosen.any()
    }


def _rounded(values: NDArray[np.float64]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in (summary(values) or {}).items()}


def _write(out: Path, latents: NDArray[np.float32], metrics: dict[str, object]) -> None:
    """Write both files so that metrics.json, if present, always matches the latents."""
    out.mkdir(parents=True, exist_ok=True)
    staged = out / f".{LATENTS_FILE}"
    with staged.open("wb") as file:
        np.save(file, latents, allow_pickle=False)
    sync(staged)
    (out / METRICS_FILE).unlink(missing_ok=True)
    staged.replace(out / LATENTS_FILE)
    write_json(out / METRICS_FILE, metrics)
