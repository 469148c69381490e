"""Every kind of film is read and written by a confined process as it is here.

A module that a library loads only for one kind of film would not be found there.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from film.errors import FilmError
from film.limits import FilmLimits
from film.output import Layout, OutputSettings, Size, picture_size
from film.process.film_process import FilmProcesses
from film.process.protocol import FILM_MAIN
from film.process.spawner import Spawner
from film.read.film_reader import FilmReader
from film.write.film_writer import FilmWriter
from tests.film.format_clips import MAKERS
from tests.film.process.sources import StoredFilm

SETTINGS = OutputSettings(layout=Layout.SIDE_BY_SIDE, size=Size.SOURCE)

Outcome = tuple[list[int], int, tuple[str, ...], str]
"""Times of pictures, bytes of output, warnings, and the error."""


async def confined(processes: FilmProcesses, path: Path) -> Outcome:
    times: list[int] = []
    warnings: tuple[str, ...] = ()
    size, error = 0, ""
    async with processes.film(StoredFilm(path)) as film:
        try:
            await film.open(SETTINGS)
            await film.begin_stream(SETTINGS)
            try:
                while (batch := await film.next()) is not None:
                    times += batch.pts.tolist()
                    size += len((await film.write(batch, batch.frames)).data)
            finally:
                end = await film.close()
                size, warnings = size + len(end.data), end.warnings
        except FilmError as raised:
            error = f"{raised.reason}: {raised}"
    return times, size, warnings, error


def here(path: Path) -> Outcome:
    times: list[int] = []
    made: list[bytes] = []
    warnings: tuple[str, ...] = ()
    error = ""
    try:
        with (
            path.open("rb") as file,
            FilmReader(file, picture_size=lambda facts: picture_size(facts, SETTINGS)) as reader,
        ):
            writer = FilmWriter(made.append, reader.facts, reader.sound_streams, SETTINGS)
            try:
                for batch in reader.batches(32):
                    times += batch.pts.tolist()
                    writer.write(batch, batch.frames)
            finally:
                writer.close()
                warnings = (*reader.warnings, *writer.warnings)
    except FilmError as raised:
        error = f"{raised.reason}: {raised}"
    return times, sum(map(len, made)), warnings, error


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes() -> AsyncIterator[FilmProcesses]:
    spawner = Spawner([FILM_MAIN])
    yield FilmProcesses(spawner, FilmLimits())
    await spawner.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", MAKERS)
async def test_a_confined_process_reads_and_writes_it(
    name: str, processes: FilmProcesses, tmp_path: Path
) -> None:
    path = MAKERS[name](tmp_path)
    assert await confined(processes, path) == here(path)
