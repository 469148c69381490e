"""Gathers all that the report tells: which models, on which frames, beside what."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.quality.baselines import Dct, choose_bins, pca_run
from benchmarks.quality.codecs import AV1, AV1_AT_RATE, X264, X264_AT_RATE, Codec, Coded
from benchmarks.quality.measured_film import Film
from benchmarks.quality.measurer import Figures, Measurer, Model
from trainer.dataset import FrameDataset
from trainer.errors import RunError
from trainer.evaluate import Reconstructor, model_of_run
from trainer.export import LATENT_SIZE
from trainer.frame_metrics import psnr
from trainer.run import Fit, Run
from trainer.sampler import spread

BITS = 8
EQUAL_BYTES = LATENT_SIZE * BITS // 8
CURVE_BITS = range(2, 9)
CURVE_BYTES = (50, 100, 200, 400, 800)
CURVE_NEAR = 0.3
"""A point of a curve may lie beside the bytes it was asked for: its own are drawn."""
FEATURE_MINUTES = 100
PREVIEW_FRAMES = 6
"""How many frames a training's preview is drawn and measured on (`trainer.journal`)."""

# What each film's own models are called: the end of a run's name, and its name on the page.
OF_ALL = {"small": "fidelity small", "large": "fidelity large"}
OF_ALL_BUT_FIDELITY = {"perceptual": "fidelity, perceptual finish", "broad2016": "broad2016"}
GENERAL = {
    "general_small": "fidelity small, general",
    "general_large": "fidelity large, general",
}


@dataclass(frozen=True, slots=True)
class Total:
    """A model against AV1 at its bytes and its decoder's together, for a film of some length."""

    model: str
    frames: int
    bytes_a_frame: float
    psnr: float
    coded: Coded
    coded_psnr: float


@dataclass(frozen=True, slots=True)
class Training:
    """How a run was trained."""

    run: str
    recipe: str
    what: str
    device: str | None
    steps: int | None
    minutes: float | None
    encoder_bytes: int
    decoder_bytes: int


@dataclass(slots=True)
class Findings:
    """All results for one film."""

    film: Film
    memory: list[Figures] = field(default_factory=list)
    """Models fitted to all frames, and codecs."""
    general: list[Figures] = field(default_factory=list)
    """Models that never saw the held-out blocks, and codecs."""
    foreign: list[Figures] = field(default_factory=list)
    """Models of another film."""
    totals: list[Total] = field(default_factory=list)
    rates: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Bytes a frame and PSNR."""
    minutes: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Minutes of training, the memory's included, and PSNR of the preview's frames."""
    memory_minutes: dict[str, float] = field(default_factory=dict)
    """Minutes of the memory's fit; missing for a curve that starts with a finished memory."""
    preview_pca: float = 0.0
    """PSNR of the same frames through PCA-200."""
    trained: list[Training] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    """Missing runs."""
    models: dict[str, Model] = field(default_factory=dict)
    """Those of `memory`, by name."""
    codecs: dict[str, Coded] = field(default_factory=dict)
    """Those of `memory`, by name."""


class Collector:
    """Collects all results, using cached measurements."""

    def __init__(self, measurer: Measurer, runs: Path, say: Callable[[str], None]) -> None:
        """Measure finished runs in a folder of them, by their fixed names."""
        self._measurer, self._runs, self._say = measurer, runs, say
        self._fitted: dict[tuple[str, Fit], list[Model]] = {}

    def film(self, key: str, film: Film) -> Findings:
        """Collect the results for a film and its own models.

        Args:
            key: What its runs' names begin with.
            film: Its frames.
        """
        found = Findings(film)
        own = [*self._baselines(key, film, "all")]
        fidelity = self._found(key, OF_ALL, found)
        own += fidelity + self._found(key, OF_ALL_BUT_FIDELITY, found)
        found.models = {model.name: model for model in own}
        for model in own:
            found.memory += [self._measurer.of_model(model, film, bits) for bits in (None, BITS)]
        for codec in (X264, AV1, X264_AT_RATE, AV1_AT_RATE):
            coded = self._measurer.coded(codec, film, EQUAL_BYTES)
            found.codecs[codec.name] = coded
            found.memory.append(self._measurer.of_coded(coded, film))
        if len(film.data.held_out):
            general = [*self._baselines(key, film, "fitted"), *self._found(key, GENERAL, found)]
            found.general = [self._measurer.of_model(model, film, BITS) for model in general]
            found.general += [
                self._measurer.of_coded(found.codecs[codec.name], film) for codec in (X264, AV1)
            ]
        for model in fidelity:
            found.totals += self._totals(model, film)
        found.rates = self._rates([own[0], *fidelity], film)
        found.minutes, found.memory_minutes = self._minutes(key)
        if found.minutes:
            found.preview_pca = self._preview_psnr(own[0], film)
        return found

    def foreign(self, key: str, owner: Film, film: Film) -> list[Figures]:
        """Measure a film through another film's models."""
        models = [*self._baselines(key, owner, "all")]
        models += self._found(key, {**OF_ALL, **GENERAL, **OF_ALL_BUT_FIDELITY}, None)
        return [self._measurer.of_model(model, film, BITS) for model in models]

    def _baselines(self, key: str, film: Film, fit: Fit) -> list[Model]:
        if (key, fit) not in self._fitted:
            folder = self._measurer.folder / "baselines" / f"{key}_pca_{fit}"
            pca = self._of_run("PCA-200", pca_run(film.data, fit, folder))
            self._say(f"{film.title}: choosing the DCT's bins")
            bins = choose_bins(film.data if fit == "fitted" else film.data.with_all_fitted())
            size = 4 * bins.mean.numel() + 4 * LATENT_SIZE
            dct = Model("DCT-200", bins.digest, lambda: Dct(bins), size, size)
            self._fitted[key, fit] = [pca, dct]
        return self._fitted[key, fit]

    def _found(self, key: str, names: dict[str, str], found: Findings | None) -> list[Model]:
        """Return the models of the existing runs, and record existing and missing ones."""
        models = []
        for end, name in names.items():
            folder = self._runs / f"{key}_{end}"
            try:
                model = self._of_run(name, folder)
            except RunError as error:
                if found is not None:
                    self._say(f"left out: {error}")
                    found.absent.append(folder.name)
                continue
            models.append(model)
            if found is not None:
                found.trained.append(_training(folder, model))
        return models

    def _of_run(self, name: str, folder: Path) -> Model:
        run = Run(folder)
        facts = run.facts()
        of_run = model_of_run(folder)
        return Model(
            name,
            str(facts["digest"]),
            lambda: Reconstructor(of_run),
            run.decoder.stat().st_size,
            run.encoder.stat().st_size,
        )

    def _totals(self, model: Model, film: Film) -> list[Total]:
        """Compare at equal total bytes: for the film's length, and for a feature film's."""
        prepared = film.data.films[0]
        seconds = float((prepared.end - prepared.start) * prepared.time_base)
        feature = round(FEATURE_MINUTES * 60 * len(film.data) / seconds)
        measured = _mean_psnr(self._measurer.of_model(model, film, BITS))
        totals = []
        for frames in (len(film.data), feature):
            size = EQUAL_BYTES + model.decoder_bytes / frames
            coded = self._measurer.coded(AV1, film, size)
            figures = self._measurer.of_coded(coded, film)
            totals.append(Total(model.name, frames, size, measured, coded, _mean_psnr(figures)))
        return totals

    def _rates(self, models: Sequence[Model], film: Film) -> dict[str, list[tuple[float, float]]]:
        rates = {
            model.name: [
                (LATENT_SIZE * bits / 8, self._measurer.psnr_of_model(model, film, bits))
                for bits in CURVE_BITS
            ]
            for model in models
        }
        return rates | {codec.name: self._codec_rates(codec, film) for codec in (X264, AV1)}

    def _codec_rates(self, codec: Codec, film: Film) -> list[tuple[float, float]]:
        points = []
        for size in CURVE_BYTES:
            coded = self._measurer.coded(codec, film, size, CURVE_NEAR)
            points.append((coded.bytes_a_frame, self._measurer.psnr_of_coded(coded, film)))
        return sorted(points)

    def _minutes(self, key: str) -> tuple[dict[str, list[tuple[float, float]]], dict[str, float]]:
        """Read the preview curves of trainings on all frames, and each memory's minutes."""
        curves, memories = {}, {}
        for end, name in OF_ALL.items():
            path = self._runs / f"{key}_{end}" / "preview.jsonl"
            if path.exists():
                lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
                if len(lines) > 1:
                    curves[name] = [(line["seconds"] / 60, line["psnr"]) for line in lines]
                remembering = [line["seconds"] / 60 for line in lines if "step" not in line]
                if remembering:
                    memories[name] = remembering[-1]
        return curves, memories

    def _preview_psnr(self, model: Model, film: Film) -> float:
        indices = spread(np.arange(len(film.data)), PREVIEW_FRAMES)
        made = self._measurer.pictures_of_model(model, film, None, indices)
        return float(
            psnr(torch.from_numpy(film.data.frames(indices)), torch.from_numpy(made)).mean()
        )


def ablations(path: Path) -> list[dict[str, object]]:
    """Read the ablations; empty if there are none."""
    return list(json.loads(path.read_text("utf-8"))) if path.exists() else []


def open_film(title: str, source: Path, folder: Path, say: Callable[[str], None]) -> Film:
    """Open a prepared data set, or prepare a film's frames in a folder, by the film's digest.

    Raises:
        DatasetError: The film cannot be read.
    """
    from trainer.prepare import Sampling, prepare

    if source.is_dir():
        return Film(title, FrameDataset.open(source))
    with source.open("rb") as file:
        folder = folder / hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if not (folder / "dataset.json").exists():
        say(f"{title}: preparing its frames")
        _, warnings = prepare([source], folder, Sampling(), lambda done, of: None)
        for warning in warnings:
            say(warning)
    return Film(title, FrameDataset.open(folder))


def _mean_psnr(figures: Figures) -> float:
    values = figures.groups["all"]["psnr"]
    assert isinstance(values, dict)
    return float(values["mean"])


def _training(folder: Path, model: Model) -> Training:
    facts = Run(folder).facts()
    settings, training = facts["settings"], facts["training"]
    assert isinstance(settings, dict) and isinstance(training, dict)
    steps, seconds = training.get("steps", training.get("step")), training.get("seconds")
    what = "all" if settings.get("fit") == "all" else "held-out blocks left out"
    return Training(
        run=folder.name,
        recipe=str(facts["recipe"]),
        what=what,
        device=str(settings["device"]) if "device" in settings else None,
        steps=steps if isinstance(steps, int) else None,
        minutes=seconds / 60 if isinstance(seconds, int | float) else None,
        encoder_bytes=model.encoder_bytes,
        decoder_bytes=model.decoder_bytes,
    )
