"""The benchmarks' environment: the example film, a model trained on it, and a real service."""

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
class Environment:
    """The environment of a benchmark."""

    service: ServiceProcess
    """Running, with a Triton of its own."""
    repository: Path
    """Its model repository, with the model "pca"."""
    film: Path
    folder: Path
    """For temporary files; empty at first."""

    def torchscript(self, half: str) -> Path:
        """Return the TorchScript file of the service's "encoder" or "decoder"."""
        versions = self.repository.glob(f"pca_{half}/[0-9]*")
        return max(versions, key=lambda folder: int(folder.name)) / "model.pt"

    def frames(self, count: int) -> NDArray[np.uint8]:
        """Return model frames spread over the whole film, [count, 144, 256, 3]."""
        with self.film.open("rb") as file, FilmReader(file, sound=False) as reader:
            frames = np.concatenate([batch.frames for batch in reader.batches(64)])
        return frames[np.linspace(0, len(frames) - 1, count).astype(np.int64)]


def train_model(folder: Path) -> Path:
    """Train a small `pca` on every fifth frame of the example film; return its model repository.

    A real model, so that its output costs the video encoder as much as real films.
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
def start_environment(repository: Path, folder: Path) -> Iterator[Environment]:
    """Start a service over the repository; the folder must not exist yet."""
    work = folder / "work"
    work.mkdir(parents=True)
    settings = {"REFILM_LOG_LEVEL": "info"}
    with ServiceProcess(folder / "service", [repository], settings) as service:
        service.wait_until_serving()
        try:
            yield Environment(service, repository, EXAMPLE_FILM, work)
        except Exception as error:
            # The folder is removed: keep the service's log.
            error.add_note("".join(service.log.read_text().splitlines(keepends=True)[-20:]))
            raise
