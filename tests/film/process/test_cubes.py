"""Tables for tone mapping that do not come with the project."""

import numpy as np

from film.limits import FilmLimits
from film.output import OutputSettings
from film.process.cubes import ColourCubes
from film.process.film_process import FilmProcesses
from film.process.protocol import CUBE_MAIN, FILM_MAIN
from film.process.spawner import Spawner
from film.read.colour_cube import BT2020_PRIMARIES
from film.read.film_reader import FilmReader
from tests.film.clips import Colour, make_clip
from tests.film.process.sources import StoredFilm

BT709 = 1
WIDE = Colour(primaries=BT2020_PRIMARIES, transfer=BT709)


async def test_a_film_of_wide_colours_is_mapped_by_a_table_that_is_made_once(tmp_path):
    clip = make_clip(tmp_path / "wide.mp4", frames=3, colour=WIDE)
    spawner = Spawner([FILM_MAIN, CUBE_MAIN])
    processes = FilmProcesses(spawner, FilmLimits())
    shown = []
    for _ in range(2):
        async with processes.film(StoredFilm(clip.path)) as film:
            await film.open(OutputSettings())
            shown.append((await film.next()).frames)
    await spawner.close()

    np.testing.assert_array_equal(shown[0], shown[1])
    with clip.path.open("rb") as file, FilmReader(file) as reader:
        np.testing.assert_array_equal(next(reader.batches(32)).frames, shown[0])


async def test_tables_are_kept():
    spawner = Spawner([CUBE_MAIN])
    cubes = ColourCubes(spawner)
    first = await cubes.get(BT709, BT2020_PRIMARIES)
    await spawner.close()
    # There is nothing any more that could make one.
    assert await cubes.get(BT709, BT2020_PRIMARIES) is first
