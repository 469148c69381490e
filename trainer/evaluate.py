"""Measures a trained pair on a data set, and draws what it remembers.

    python -m trainer evaluate --run runs/film --data data/film
    python -m trainer evaluate --repository .refilm/models --name bunny --data data/sintel \
        --out evaluations/sintel_through_bunny

Writes metrics.json, frames.npz (every measure of every frame), contact_sheet.png and
worst_frames.png. Frames stream through: a film's length costs time, not memory.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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
from trainer.metrics import Change, change, psnr, similarities, summary, temporal_summary
from trainer.run import Run, write_json
from trainer.triton_repository import DECODER, ENCODER, versions

_BATCH = 32
_WORST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Model:
    """A pair to evaluate, and what is known of it."""

    encoder: Path
    decoder: Path
    label: str
    """What a person calls it: "pca", "bunny, version 3"."""
    card: Mapping[str, object]


@dataclass(slots=True)
class _Measures:
    """What was measured so far, in the order of the data set's frames."""

    index: list[int] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    ms_ssim: list[float] = field(default_factory=list)
    change: list[Change | None] = field(default_factory=list)


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

    def __init__(self, model: Model) -> None:
        """Load the pair.

        Raises:
            ContractError: A file is no TorchScript module.
        """
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._encoder = load_torchscript(model.encoder).to(self.device)
        self._decoder = load_torchscript(model.decoder).to(self.device)

    def __call__(self, frames: Tensor) -> Tensor:
        """Return the reconstructions of uint8 frames ``[N, 144, 256, 3]``."""
        with torch.inference_mode():
            reconstructions: Tensor = self._decoder(self._encoder(frames.to(self.device))[0])[0]
        return reconstructions


def evaluate(
    model: Model,
    data: FrameDataset,
    out: Path,
    *,
    every: int = 1,
    step: int | None = None,
    on_frames: Callable[[int], None],
) -> dict[str, object]:
    """Measure a pair on a data set.

    Args:
        model: The pair.
        data: The frames.
        out: Folder to write into; files of the same names are replaced.
        every: Measure every n-th frame only; changes are still from one frame to the next.
        step: Contact sheet: frames from one pair to the next; a page full unless given.
        on_frames: Told how many more frames were measured.

    Returns:
        What `metrics.json` says.

    Raises:
        ContractError: The pair cannot be loaded.
        DatasetError: The data set is empty or damaged.
    """
    if not len(data):
        raise DatasetError("There is no frame to evaluate: the data set is empty")
    reconstruct = Reconstructor(model)
    measures = _measure(reconstruct, data, every, on_frames)
    metrics = _report(model, data, measures, every)
    out.mkdir(parents=True, exist_ok=True)
    _write_frames(out / "frames.npz", data, measures)
    write_json(out / "metrics.json", metrics)
    chosen, remark = sheet_indices(data, step), f"{np.mean(measures.psnr):.1f} dB"
    _draw(reconstruct, model, data, chosen, out / "contact_sheet.png", remark)
    _draw(reconstruct, model, data, _worst(data, measures), out / "worst_frames.png", "worst first")
    return metrics


def sheet_indices(data: FrameDataset, step: int | None) -> NDArray[np.int64]:
    """Choose the contact sheet's frames: in even steps through all, a page full by default.

    Raises:
        TrainerError: The step is too small for a sheet that anyone could open.
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
) -> _Measures:
    measures = _Measures()
    begins_shot = np.zeros(len(data), np.bool_)
    begins_shot[[shot.first for shot in data.shots]] = True
    before: tuple[int, Tensor, Tensor] | None = None
    for indices in _needed(len(data), every):
        source = torch.from_numpy(data.frames(indices)).to(reconstruct.device)
        result = reconstruct(source)
        chosen = np.flatnonzero(indices % every == 0)
        ssim, ms_ssim = similarities(source[chosen], result[chosen])
        measures.index += indices[chosen].tolist()
        measures.psnr += psnr(source[chosen], result[chosen]).tolist()
        measures.ssim += ssim.tolist()
        measures.ms_ssim += ms_ssim.tolist()
        for row, index in enumerate(indices.tolist()):
            now = (index, source[row], result[row])
            if index % every == 0:
                follows = before is not None and before[0] == index - 1 and not begins_shot[index]
                measures.change.append(
                    change(before[1:], now[1:]) if before is not None and follows else None
                )
            before = now
        on_frames(len(chosen))
    return measures


def _needed(count: int, every: int) -> Iterator[NDArray[np.int64]]:
    """Batches of the frames to read: those to measure, and the one before each; all in order.

    Every batch holds one frame to measure at least.
    """
    indices = np.arange(count, dtype=np.int64)
    needed = indices[(indices % every == 0) | ((indices + 1) % every == 0)]
    if every > 1 and needed[-1] % every:
        needed = needed[:-1]
    for first in range(0, len(needed), _BATCH):
        yield needed[first : first + _BATCH]


def _report(model: Model, data: FrameDataset, measures: _Measures, every: int) -> dict[str, object]:
    indices = np.array(measures.index)
    groups = {
        name: _group(measures, np.flatnonzero(chosen))
        for name, chosen in _groups(model, data, indices).items()
        if chosen.any()
    }
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
        "groups": groups,
        "summary": {
            name: {
                key: round(value["mean"], 4)
                for key, value in group.items()
                if isinstance(value, dict) and "mean" in value
            }
            for name, group in groups.items()
        },
    }


def _groups(
    model: Model, data: FrameDataset, indices: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Sort the frames by what the model knew of them.

    "fitted": trained on; "held_out": in blocks of a film trained on that were left out; "unseen":
    of another film.
    """
    films = model.card.get("films")
    trained_on = {film["digest"] for film in films} if isinstance(films, list) else set()
    is_known = np.array([film.digest in trained_on for film in data.films])[data.film[indices]]
    left_out = data.is_held_out[indices] & _was_left_out(model.card)
    return {
        "all": np.ones(len(indices), np.bool_),
        "fitted": is_known & ~left_out,
        "held_out": is_known & left_out,
        "unseen": ~is_known,
    }


def _was_left_out(card: Mapping[str, object]) -> bool:
    """Say whether training left the held-out blocks of its films unseen."""
    training = card.get("training")
    settings = training.get("settings") if isinstance(training, dict) else None
    return not (isinstance(settings, dict) and settings.get("fit") == "all")


def _group(measures: _Measures, chosen: NDArray[np.int64]) -> dict[str, object]:
    changes = [measures.change[row] for row in chosen]
    return {
        "frames": len(chosen),
        "psnr": summary(np.array(measures.psnr)[chosen]),
        "ssim": summary(np.array(measures.ssim)[chosen]),
        "ms_ssim": summary(np.array(measures.ms_ssim)[chosen]),
        "temporal": temporal_summary([each for each in changes if each is not None]),
    }


def _write_frames(path: Path, data: FrameDataset, measures: _Measures) -> None:
    indices = np.array(measures.index, np.int64)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            index=indices,
            film=data.film[indices],
            pts=data.pts[indices],
            held_out=data.is_held_out[indices],
            psnr=np.array(measures.psnr, np.float32),
            ssim=np.array(measures.ssim, np.float32),
            ms_ssim=np.array(measures.ms_ssim, np.float32),
            temporal_error=np.array(
                [np.nan if each is None else each.error for each in measures.change], np.float32
            ),
        )


def _worst(data: FrameDataset, measures: _Measures) -> NDArray[np.int64]:
    """Choose the frames with the lowest PSNR, one of each shot."""
    shot_firsts = np.array([shot.first for shot in data.shots])
    chosen: dict[int, int] = {}
    for row in np.argsort(measures.psnr):
        index = measures.index[row]
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
        for first in range(0, len(indices), _BATCH):
            part = indices[first : first + _BATCH]
            source = data.frames(part)
            results = reconstruct(torch.from_numpy(source)).cpu().numpy()
            for row, index in enumerate(part.tolist()):
                film = data.films[int(data.film[index])]
                shape = (film.width, film.height)
                yield Pair(source[row], results[row], data.seconds(index), shape)

    titles = " · ".join(film.title.replace("_", " ") for film in data.films)
    note = f"{model.label} · 200 numbers a frame · {remark}"
    draw_sheet(pairs(), len(indices), path, title=titles, note=note)
