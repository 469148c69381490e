"""Evaluates a trained encoder/decoder pair on a data set: metrics and contact sheets.

    python -m trainer evaluate --run runs/film --data data/film
    python -m trainer evaluate --repository .refilm/models --name bunny --data data/sintel \
        --out evaluations/sintel_through_bunny
    python -m trainer evaluate --run runs/film --data data/film --bits 8

Writes metrics.json, frames.npz (all measures of each frame), contact_sheet.png and
worst_frames.png. Frames are streamed: memory does not grow with the film.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.card import digest_of
from trainer.contact_sheet import SHEET_PAIRS, Pair, draw_sheet
from trainer.dataset import FrameDataset
from trainer.errors import DatasetError, PublishError, TrainerError
from trainer.export import load_torchscript
from trainer.measures import BATCH, Measures, frames_to_read, summary_of
from trainer.quantize import Quantizer, Ranges
from trainer.run import Run, write_json
from trainer.triton_repository import DECODER, ENCODER, versions

_WORST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Model:
    """A pair to evaluate, with its card."""

    encoder: Path
    decoder: Path
    label: str
    """For people: "pca", "bunny, version 3"."""
    card: Mapping[str, object]


def model_of_run(folder: Path) -> Model:
    """Return a finished run's pair.

    Raises:
        RunError: The run is not finished.
    """
    run = Run(folder)
    card = run.card()
    return Model(run.encoder, run.decoder, str(card["recipe"]), card)


def model_of_repository(repository: Path, name: str, version: int | None) -> Model:
    """Return a published pair; the newest version unless one is named.

    Raises:
        PublishError: There is no such version.
    """
    halves = [repository / f"{name}_{half}" for half in (ENCODER, DECODER)]
    whole = set(versions(halves[0])) & set(versions(halves[1]))
    if version is None and whole:
        version = max(whole)
    if version not in whole:
        known = ", ".join(str(number) for number in sorted(whole)) or "none"
        wanted = "any version" if version is None else f"version {version}"
        raise PublishError(f"{repository} does not hold {wanted} of {name} (it holds: {known})")
    folders = [half / str(version) for half in halves]
    card = json.loads((folders[0] / "card.json").read_text("utf-8"))
    return Model(
        folders[0] / "model.pt", folders[1] / "model.pt", f"{name}, version {version}", card
    )


class Reconstructor:
    """Sends frames through a pair, on a GPU where there is one."""

    def __init__(self, model: Model, quantizer: Quantizer | None = None) -> None:
        """Load the pair.

        Args:
            model: The pair.
            quantizer: Applied to latents before they are decoded; may be set later.

        Raises:
            ContractError: A file is not a TorchScript module.
        """
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.quantizer = quantizer
        self._encoder = load_torchscript(model.encoder).to(self.device)
        self._decoder = load_torchscript(model.decoder).to(self.device)

    def __call__(self, frames: Tensor) -> Tensor:
        """Return the reconstructions of uint8 frames ``[N, 144, 256, 3]``."""
        latents = self.encode(frames)
        return self.decode(latents if self.quantizer is None else self.quantizer(latents))

    def encode(self, frames: Tensor) -> Tensor:
        """Return the latents of uint8 frames, float32 ``[N, 200]``, as the encoder gives them."""
        with torch.inference_mode():
            latents: Tensor = self._encoder(frames.to(self.device))[0]
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Return the frames of latents, uint8 ``[N, 144, 256, 3]``."""
        with torch.inference_mode():
            frames: Tensor = self._decoder(latents.to(self.device))[0]
        return frames


def quantizer_for(
    reconstruct: Reconstructor, data: FrameDataset, bits: int, on_frames: Callable[[int], None]
) -> Quantizer:
    """Encode all frames of a data set to find the ranges of their latents.

    Raises:
        TrainerError: The bits are not between 1 and 16.
    """
    ranges = Ranges()
    for indices in frames_to_read(len(data), every=1):
        ranges.update(reconstruct.encode(torch.from_numpy(data.frames(indices))))
        on_frames(len(indices))
    return ranges.quantizer(bits)


def evaluate(
    model: Model,
    data: FrameDataset,
    out: Path,
    *,
    every: int = 1,
    step: int | None = None,
    bits: int | None = None,
    on_frames: Callable[[int], None],
) -> dict[str, object]:
    """Measure a pair on a data set.

    Args:
        model: The pair.
        data: The frames.
        out: Folder to write into; files of the same names are replaced.
        every: Measure every n-th frame only; changes are still from one frame to the next.
        step: Frames between the pairs of the contact sheet; default: as many as fill a page.
        bits: Quantize each latent number to so many bits over its range in this data set (see
            `trainer.quantize`), which takes a pass over all frames first.
        on_frames: Called with the number of frames just processed: with `bits`, each frame of the
            data set, and then each measured one.

    Returns:
        What `metrics.json` says.

    Raises:
        ContractError: The pair cannot be loaded.
        DatasetError: The data set is empty or damaged.
        TrainerError: The bits are not between 1 and 16.
    """
    if not len(data):
        raise DatasetError("There is no frame to evaluate: the data set is empty")
    reconstruct = Reconstructor(model)
    if bits is not None:
        reconstruct.quantizer = quantizer_for(reconstruct, data, bits, on_frames)
    measures = _measure(reconstruct, data, every, on_frames)
    metrics = _report(model, data, measures, every, bits)
    out.mkdir(parents=True, exist_ok=True)
    _write_frames(out / "frames.npz", data, measures)
    write_json(out / "metrics.json", metrics)
    chosen, remark = sheet_indices(data, step), f"{measures.psnr.mean():.1f} dB"
    _draw(reconstruct, model, data, chosen, out / "contact_sheet.png", remark)
    _draw(reconstruct, model, data, _worst(data, measures), out / "worst_frames.png", "worst first")
    return metrics


def sheet_indices(data: FrameDataset, step: int | None) -> NDArray[np.int64]:
    """Choose the contact sheet's frames at even steps; by default as many as fill a page.

    Raises:
        TrainerError: The step makes too large a sheet.
    """
    if step is None:
        pairs = min(SHEET_PAIRS, len(data))
        return ((np.arange(pairs) + 0.5) / pairs * len(data)).astype(np.int64)
    indices = np.arange(0, len(data), step, dtype=np.int64)
    if len(indices) > 10 * SHEET_PAIRS:
        raise TrainerError(
            f"A step of {step} frames makes {len(indices)} pairs; a sheet holds at most "
            f"{10 * SHEET_PAIRS}: take a step of at least {-(-len(data) // (10 * SHEET_PAIRS))}"
        )
    return indices


def _measure(
    reconstruct: Reconstructor,
    data: FrameDataset,
    every: int,
    on_frames: Callable[[int], None],
) -> Measures:
    measures = Measures(data.shots, every)
    for indices in frames_to_read(len(data), every):
        source = torch.from_numpy(data.frames(indices)).to(reconstruct.device)
        measures.add(indices, source, reconstruct(source))
        on_frames(int((indices % every == 0).sum()))
    return measures


def _report(
    model: Model, data: FrameDataset, measures: Measures, every: int, bits: int | None
) -> dict[str, object]:
    groups = measures.report(groups_of(model.card, data, measures.index))
    return {
        "model": {
            "label": model.label,
            "recipe": model.card["recipe"],
            "digest": digest_of(model.encoder, model.decoder),
        },
        "data": {
            "digest": data.digest,
            "sampling": data.sampling,
            "films": [{"title": film.title, "digest": film.digest} for film in data.films],
        },
        "every": every,
        "bits": bits,
        "groups": groups,
        "summary": summary_of(groups),
    }


def groups_of(
    card: Mapping[str, object], data: FrameDataset, indices: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Return masks of the frames at these indices, by group.

    "all"; "fitted": trained on; "held_out": held-out blocks of a film that was trained on;
    "unseen": of another film.
    """
    films = card.get("films")
    trained_on = {film["digest"] for film in films} if isinstance(films, list) else set()
    is_known = np.array([film.digest in trained_on for film in data.films])[data.film[indices]]
    left_out = data.is_held_out[indices] & _was_left_out(card)
    return {
        "all": np.ones(len(indices), np.bool_),
        "fitted": is_known & ~left_out,
        "held_out": is_known & left_out,
        "unseen": ~is_known,
    }


def _was_left_out(card: Mapping[str, object]) -> bool:
    """Return whether training left out the held-out blocks of its films."""
    training = card.get("training")
    settings = training.get("settings") if isinstance(training, dict) else None
    return not (isinstance(settings, dict) and settings.get("fit") == "all")


def _write_frames(path: Path, data: FrameDataset, measures: Measures) -> None:
    indices = measures.index
    columns = {name: values.astype(np.float32) for name, values in measures.columns().items()}
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            index=indices,
            film=data.film[indices],
            pts=data.pts[indices],
            held_out=data.is_held_out[indices],
            **columns,
        )


def _worst(data: FrameDataset, measures: Measures) -> NDArray[np.int64]:
    """Choose the frames with the lowest PSNR, one of each shot."""
    shot_firsts = np.array([shot.first for shot in data.shots])
    chosen: dict[int, int] = {}
    for index in measures.index[np.argsort(measures.psnr)].tolist():
        chosen.setdefault(int(np.searchsorted(shot_firsts, index, side="right")), index)
        if len(chosen) == _WORST_SHOWN:
            break
    return np.array(list(chosen.values()), np.int64)


def _draw(
    reconstruct: Reconstructor,
    model: Model,
    data: FrameDataset,
    indices: NDArray[np.int64],
    path: Path,
    remark: str,
) -> None:
    def pairs() -> Iterator[Pair]:
        for first in range(0, len(indices), BATCH):
            part = indices[first : first + BATCH]
            source = data.frames(part)
            results = reconstruct(torch.from_numpy(source)).cpu().numpy()
            for row, index in enumerate(part.tolist()):
                film = data.films[int(data.film[index])]
                shape = (film.width, film.height)
                yield Pair(source[row], results[row], data.seconds(index), shape)

    titles = " · ".join(film.title.replace("_", " ") for film in data.films)
    quantizer = reconstruct.quantizer
    size = "" if quantizer is None else f" of {quantizer.bits} bits"
    note = f"{model.label} · 200 numbers{size} a frame · {remark}"
    draw_sheet(pairs(), len(indices), path, title=titles, note=note)
