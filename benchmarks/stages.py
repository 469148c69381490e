"""The stages of a reconstruction, each alone, with the service's code and sizes."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from film.output import OutputSettings
from film.process.frame_slots import SLOT_FRAMES
from film.read.batch import FilmBatch
from film.read.film_reader import FilmReader
from film.write.film_writer import FilmWriter
from service.inference import Inference, Models
from service.inference.admission import Admission
from service.inference.connection import connect
from service.pipeline import pipeline
from service.settings import Settings

IN_FLIGHT = pipeline.BATCHES_IN_FLIGHT + 2
"""Batches between the reader and the writer of a reconstruction."""


@contextmanager
def opened(film: Path) -> Iterator[FilmReader]:
    """Open a film as the service does for the default settings."""
    with film.open("rb") as file, FilmReader(file) as reader:
        yield reader


def read(reader: FilmReader) -> list[FilmBatch]:
    """Read, decode and scale the whole film, in the service's batches."""
    return list(reader.batches(SLOT_FRAMES))


def write(reader: FilmReader, batches: list[FilmBatch], decoded: list[NDArray[np.uint8]]) -> None:
    """Encode and write the whole output, and discard it."""
    writer = FilmWriter(lambda _: None, reader.facts, reader.sound_streams, OutputSettings())
    with writer:
        for batch, frames in zip(batches, decoded, strict=True):
            writer.write(batch, frames)


class Engine:
    """The service's inference in this process, with a running Triton."""

    def __init__(self, triton_address: str) -> None:
        self._address = triton_address
        self._loop = asyncio.Runner()
        self._closing = AsyncExitStack()

    def __enter__(self) -> Self:
        self._loop.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._closing.aclose())
        self._loop.close()

    async def _start(self) -> None:
        triton = connect(self._address)
        self._closing.push_async_callback(triton.close)
        models = Models(triton)
        await models.refresh()
        self._model = models.resolve()
        settings = Settings()
        places = Admission(
            settings.max_frames_in_flight, max_wait_seconds=settings.max_wait_seconds
        )
        self._inference = Inference(triton, places)

    def infer(self, batches: list[FilmBatch]) -> list[NDArray[np.uint8]]:
        """Send every batch through the model, several at once; return the output."""
        return self._loop.run(self._infer(batches))

    async def _infer(self, batches: list[FilmBatch]) -> list[NDArray[np.uint8]]:
        places = asyncio.Semaphore(IN_FLIGHT)

        async def one(batch: FilmBatch) -> NDArray[np.uint8]:
            if not len(batch.pts):
                return batch.frames
            async with places:
                encoded = await self._inference.encode(self._model, batch.frames)
                decoded = await self._inference.decode(self._model, encoded.latents)
                return decoded.frames

        return await asyncio.gather(*(one(batch) for batch in batches))
