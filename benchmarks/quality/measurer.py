"""Measures models and encoded films with the trainer's code, and caches the results.

The cache is a folder keyed by the digests of all inputs, so an interrupted report continues, and a
retrained model is measured again.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import trainer
from benchmarks.quality.codecs import NEAR, Codec, Coded, decode, encode_at
from benchmarks.quality.measured_film import Film
from benchmarks.quality.static_shots import STATIC_CHANGES, StaticChanges, static_frames
from trainer.durable import replace_text
from trainer.export import LATENT_SIZE
from trainer.frame_metrics import psnr
from trainer.measures import Measures, frames_to_read
from trainer.quantize import Quantizer

_BATCH = 32
_WORST = 12
_CURVE_EVERY = 12
# The modules that a measurement depends on: if one changes, everything is measured again.
_CODE = ("measures", "frame_metrics", "ssim", "haarpsi", "quantize")


class Pair(Protocol):
    """An encoder and its decoder."""

    def encode(self, frames: Tensor) -> Tensor:
        """Return the latents ``[N, 200]`` of uint8 frames ``[N, 144, 256, 3]``."""

    def decode(self, latents: Tensor) -> Tensor:
        """Return uint8 frames ``[N, 144, 256, 3]``."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model or baseline to measure."""

    name: str
    digest: str
    load: Callable[[], Pair]
    decoder_bytes: int
    """Size of the decoder's file."""
    encoder_bytes: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one model or codec on one film."""

    name: str
    bytes_a_frame: float
    decoder_bytes: int | None
    """None for a codec, whose decoder does not depend on the film."""
    groups: Mapping[str, Mapping[str, object]]
    """Of "all" frames, those in "fitted" and those in "held_out" blocks: see `Measures.report`."""
    worst: list[int]
    """The worst frames, one of each shot, the worst first."""


class Measurer:
    """Measures, with a cache in a folder."""

    def __init__(self, folder: Path, every: int, say: Callable[[str], None]) -> None:
        """Take the cache folder, the step between measured frames, and a progress callback."""
        self.folder = folder
        self.every = every
        self._say = say
        self._loaded: tuple[str, Pair] | None = None
        package = Path(str(trainer.__file__)).parent
        sources = [(package / f"{name}.py").read_bytes() for name in _CODE]
        self._code = hashlib.sha256(b"".join(sources)).hexdigest()

    def of_model(self, model: Model, film: Film, bits: int | None) -> Figures:
        """Measure a model with its latents as float32 or quantized."""

        def measure() -> dict[str, object]:
            measures = Measures(film.data.shots, self.every)
            reconstruct = self._reconstruct(model, film, bits)
            for indices in frames_to_read(len(film.data), self.every):
                _add(measures, film, indices, reconstruct(indices))
            static = StaticChanges(film, self._static(film))
            for indices in static.frames_to_read():
                static.add(indices, reconstruct(indices))
            return _report(film, measures, static)

        found = self._once(
            f"{model.name} on {film.title}, {f'{bits} bits' if bits else 'float32'}",
            {"model": model.digest, "bits": bits, **self._frames(film)},
            measure,
        )
        size = LATENT_SIZE * (bits or 32) / 8
        return Figures(model.name, size, model.decoder_bytes, **found)

    def of_coded(self, coded: Coded, film: Film) -> Figures:
        """Measure a film that was encoded."""

        def measure() -> dict[str, object]:
            measures = Measures(film.data.shots, self.every)
            static = StaticChanges(film, self._static(film))
            own = np.concatenate(list(frames_to_read(len(film.data), self.every)))
            others = np.concatenate([np.zeros(0, np.int64), *static.frames_to_read()])
            for indices, frames in _coded_frames(coded, [np.union1d(own, others)]):
                for wanted, add in ((own, partial(_add, measures, film)), (others, static.add)):
                    chosen = np.isin(indices, wanted)
                    if chosen.any():
                        add(indices[chosen], torch.from_numpy(frames[chosen]))
            return _report(film, measures, static)

        found = self._once(
            f"{coded.codec} at {coded.bytes_a_frame:.0f} bytes on {film.title}",
            {"coded": _digest(coded.path), **self._frames(film)},
            measure,
        )
        return Figures(coded.codec, coded.bytes_a_frame, None, **found)

    def psnr_of_model(self, model: Model, film: Film, bits: int) -> float:
        """Return the mean PSNR of every twelfth frame, for a rate curve."""

        def measure() -> dict[str, object]:
            reconstruct = self._reconstruct(model, film, bits)
            every = self.curve_every
            chosen = np.arange(0, len(film.data), every, dtype=np.int64)
            values = [
                _psnr(film, indices, reconstruct(indices))
                for indices in np.array_split(chosen, -(-len(chosen) // _BATCH))
            ]
            return {"psnr": float(torch.cat(values).mean())}

        facts = {"model": model.digest, "data": film.data.digest, "bits": bits}
        return self._psnr_once(f"{model.name} on {film.title}, {bits} bits", facts, measure)

    def psnr_of_coded(self, coded: Coded, film: Film) -> float:
        """Return the mean PSNR of every twelfth frame, for a rate curve."""

        def measure() -> dict[str, object]:
            values = [
                _psnr(film, indices[chosen], torch.from_numpy(frames[chosen]))
                for indices, frames in _coded_frames(
                    coded, frames_to_read(len(film.data), self.curve_every)
                )
                if (chosen := indices % self.curve_every == 0).any()
            ]
            return {"psnr": float(torch.cat(values).mean())}

        what = f"{coded.codec} at {coded.bytes_a_frame:.0f} bytes on {film.title}"
        facts = {"coded": _digest(coded.path), "data": film.data.digest}
        return self._psnr_once(what, facts, measure)

    def _frames(self, film: Film) -> dict[str, object]:
        return {"data": film.data.digest, "every": self.every, "still": STATIC_CHANGES}

    def _static(self, film: Film) -> NDArray[np.int64]:
        def find() -> dict[str, object]:
            return {"indices": static_frames(film).tolist()}

        facts = {"data": film.data.digest, "still": STATIC_CHANGES}
        found = self._once(f"what stands still in {film.title}", facts, find)["indices"]
        return np.array(found, np.int64)

    @property
    def curve_every(self) -> int:
        """Step between the frames of the rate curve, a multiple of `every`."""
        return self.every * -(-_CURVE_EVERY // self.every)

    def coded(self, codec: Codec, film: Film, bytes_a_frame: float, near: float = NEAR) -> Coded:
        """Encode a film at so many bytes a frame within a tolerance, unless cached."""
        codec_name = re.sub(r"[^a-z0-9]+", "_", codec.name.lower())
        about = "" if near == NEAR else "about-"
        name = f"{_short(film.data.digest)}-{codec_name}-{about}{bytes_a_frame:.0f}.mkv"
        return encode_at(
            codec,
            film.frames,
            bytes_a_frame,
            self.folder / "coded" / name,
            lambda tried: self._say(f"{film.title}: {tried}"),
            near=near,
        )

    def pictures_of_model(
        self, model: Model, film: Film, bits: int | None, indices: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Return a model's reconstructions of some frames."""
        reconstruct = self._reconstruct(model, film, bits)
        parts = [
            reconstruct(indices[first : first + _BATCH]).cpu().numpy()
            for first in range(0, len(indices), _BATCH)
        ]
        return np.concatenate(parts)

    def _reconstruct(
        self, model: Model, film: Film, bits: int | None
    ) -> Callable[[NDArray[np.int64]], Tensor]:
        """Return a function from frame indices to a model's reconstructions."""
        kept, whole = self._latents(model, film)
        pair = self._load(model)
        quantize = None if bits is None else Quantizer.fit(whole, bits)

        def reconstruct(indices: NDArray[np.int64]) -> Tensor:
            rows = np.searchsorted(kept, indices).clip(max=len(kept) - 1)
            with torch.inference_mode():
                if (kept[rows] == indices).all():
                    latents = whole[torch.from_numpy(rows)]
                else:
                    latents = _encoded(pair, film.data.frames(indices))
                return pair.decode(latents if quantize is None else quantize(latents))

        return reconstruct

    def _latents(self, model: Model, film: Film) -> tuple[NDArray[np.int64], Tensor]:
        """Encode the frames to measure, unless their latents are cached.

        Returns:
            The frames' indices, ascending ``[M]``, and their latents ``[M, 200]``.
        """
        indices = np.concatenate(list(frames_to_read(len(film.data), self.every)))
        name = f"{_short(model.digest)}-{_short(film.data.digest)}-{self.every}.npy"
        path = self.folder / "latents" / name
        if not path.exists():
            self._say(f"{model.name}: encoding {film.title}")
            pair = self._load(model)
            batches = np.array_split(indices, -(-len(indices) // _BATCH))
            with torch.inference_mode():
                parts = [_encoded(pair, film.data.frames(batch)).numpy() for batch in batches]
            path.parent.mkdir(parents=True, exist_ok=True)
            staged = path.with_name(f".{name}")
            with staged.open("wb") as file:
                np.save(file, np.concatenate(parts))
            staged.replace(path)
        latents: NDArray[np.float32] = np.load(path)
        return indices, torch.from_numpy(latents)

    def _load(self, model: Model) -> Pair:
        """Load a model; only the last one stays in memory."""
        if self._loaded is None or self._loaded[0] != model.digest:
            self._loaded = None
            self._loaded = (model.digest, model.load())
        return self._loaded[1]

    def _psnr_once(
        self, what: str, facts: Mapping[str, object], measure: Callable[[], dict[str, object]]
    ) -> float:
        found = self._once(what, {**facts, "curve_every": self.curve_every}, measure)
        value = found["psnr"]
        assert isinstance(value, float)
        return value

    def _once(
        self, what: str, facts: Mapping[str, object], measure: Callable[[], dict[str, object]]
    ) -> dict[str, Any]:
        """Measure unless cached."""
        key = hashlib.sha256(
            json.dumps({**facts, "code": self._code}, sort_keys=True).encode()
        ).hexdigest()[:16]
        path = self.folder / "measured" / f"{key}.json"
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))["found"]
            return found
        self._say(f"measuring {what}")
        content = {"what": what, "of": dict(facts), "found": measure()}
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(content, indent=1) + "\n")
        # Exactly as it will be read back from JSON.
        read: dict[str, Any] = json.loads(json.dumps(content["found"]))
        return read


def pictures_of_coded(coded: Coded, film: Film, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return some frames of an encoded film, in the order of the indices."""
    found: dict[int, NDArray[np.uint8]] = {}
    wanted = set(indices.tolist())
    for first, frames in _numbered(coded):
        for row in range(len(frames)):
            if first + row in wanted:
                found[first + row] = frames[row]
    return np.stack([found[index] for index in indices.tolist()])


def _encoded(pair: Pair, frames: NDArray[np.uint8]) -> Tensor:
    return pair.encode(torch.from_numpy(frames)).float().cpu()


def _coded_frames(
    coded: Coded, batches: Iterable[NDArray[np.int64]]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Decode a film; yield the frames of ascending batches of indices, with the indices."""
    wanted = np.concatenate([np.zeros(0, np.int64), *batches])
    for first, frames in _numbered(coded):
        chosen = wanted[(wanted >= first) & (wanted < first + len(frames))]
        if len(chosen):
            yield chosen, frames[chosen - first]


def _numbered(coded: Coded) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    first = 0
    for frames in decode(coded):
        yield first, frames
        first += len(frames)


def _add(measures: Measures, film: Film, indices: NDArray[np.int64], result: Tensor) -> None:
    source = torch.from_numpy(film.data.frames(indices))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    measures.add(indices, source.to(device), result.to(device))


def _psnr(film: Film, indices: NDArray[np.int64], result: Tensor) -> Tensor:
    return psnr(torch.from_numpy(film.data.frames(indices)), result.cpu())


def _report(film: Film, measures: Measures, static: StaticChanges) -> dict[str, object]:
    def of(indices: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
        held_out = film.data.is_held_out[indices]
        everything = np.ones(len(indices), np.bool_)
        return {"all": everything, "fitted": ~held_out, "held_out": held_out}

    groups = measures.report(of(measures.index))
    for name, chosen in of(static.index).items():
        if name in groups:
            groups[name]["static_shots"] = static.summary(chosen)
    return {"groups": groups, "worst": _worst(film, measures)}


def _worst(film: Film, measures: Measures) -> list[int]:
    firsts = np.array([shot.first for shot in film.data.shots])
    chosen: dict[int, int] = {}
    for index in measures.index[np.argsort(measures.psnr)].tolist():
        chosen.setdefault(int(np.searchsorted(firsts, index, side="right")), index)
        if len(chosen) == _WORST:
            break
    return list(chosen.values())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:8]
