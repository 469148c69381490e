"""What is measured: the example film, a model trained on it, and a real service that has it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import ROOT
from film.read.film_reader import FilmReader
from tests.support.service_process import ServiceProcess
from trainer.prepare import Sampling, prepare
from trainer.publish import publish
from trainer.recipes.pca import PcaDecoder, PcaEncoder, find_components

EXAMPLE_FILM = ROOT / "examples" / "films" / "big_buck_bunny_60s.mp4"


@dataclass(frozen=True, slots=True)
class Stage:
    """What every benchmark works with."""

    service: ServiceProcess
    """Running, with a Triton of its own."""
    repository: Path
    """Its model repository; holds the one model "pca"."""
    film: Path
    folder: Path
    """For what a benchmark makes on the way; empty at first."""

    def torchscript(self, half: str) -> Path:
        """Return the TorchScript file of the "encoder" or "decoder" that the service answers by."""
        versions = self.repository.glob(f"pca_{half}/[0-9]*")
        return max(versions, key=lambda folder: int(folder.name)) / "model.pt"

    def frames(self, count: int) -> NDArray[np.uint8]:
        """Return model frames spread over the whole film, [count, 144, 256, 3]."""
        with self.film.open("rb") as file, FilmReader(file, sound=False) as reader:
            frames = np.concatenate([batch.frames for batch in reader.batches(64)])
        return frames[np.linspace(0, len(frames) - 1, count).astype(np.int64)]


def train_model(folder: Path) -> Path:
    """Train a small `pca` on every fifth frame of the example film; return its model repository.

    A real model, not random numbers: what it decodes costs the video encoder what films cost it.
    """
    data, _ = prepare([EXAMPLE_FILM], folder / "data", Sampling(every=5), lambda *_: None)
    components = find_components(data, lambda _: None)
    data.close()
    repository = folder / "models"
    publish(
        PcaEncoder(components),
        PcaDecoder(components),
        name="pca",
        card={"recipe": "pca", "frames": len(data.fitted), "films": [], "metrics": {}},
        repository=repository,
    )
    return repository


@contextmanager
def set_stage(repository: Path, folder: Path) -> Iterator[Stage]:
    """Start a service over the repository, working in a folder that does not exist yet."""
    work = folder / "work"
    work.mkdir(parents=True)
    settings = {"REFILM_LOG_LEVEL": "info"}
    with ServiceProcess(folder / "service", [repository], settings) as service:
        service.wait_until_serving()
        try:
            yield Stage(service, repository, EXAMPLE_FILM, work)
        except Exception as error:
            # The folder goes; what the service had to say must not.
            error.add_note("".join(service.log.read_text().splitlines(keepends=True)[-20:]))
            raise
