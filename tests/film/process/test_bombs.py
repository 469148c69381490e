"""Films that are small and cost much end at a limit, and only for the limit's sake."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from film.errors import FilmLimitError
from film.limits import FilmLimits, ReadLimits
from film.output import OutputSettings
from film.process.film_process import FilmProcesses
from film.process.protocol import CUBE_MAIN, FILM_MAIN
from film.process.spawner import Spawner
from tests.film.process.sources import StoredFilm
from tests.support.bombs import repeated_pictures, sound_packets

SIDE = 2048
FRAME = Fraction(1, 24)


@dataclass(frozen=True)
class Bomb:
    """What is read, under which limit it ends, and how many pictures it has where it may not."""

    film: str
    limit: str
    pictures: int
    read: dict[str, Any] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> FilmLimits:
        return FilmLimits(read=ReadLimits(**self.read), **self.whole)


BOMBS = [
    Bomb("sound-between.mkv", "packets_between_pictures", 2, {"packets_between_pictures": 5000}),
    Bomb("sound-before.mkv", "packets_between_pictures", 2, {"packets_between_pictures": 5000}),
    Bomb("sound-between.mkv", "bytes_between_pictures", 2, {"bytes_between_pictures": 5000}),
    Bomb("large.mp4", "picture_pixels", 48, {"picture_pixels": SIDE * SIDE - 1}),
    Bomb("large.mp4", "decoded_bytes", 48, {"decoded_bytes": 24 * SIDE * SIDE}),
    Bomb("large.mp4", "memory_bytes", 48, whole={"memory_bytes": 80 << 20}),
    Bomb("large.mp4", "duration_seconds", 48, {"duration_seconds": 1}),
    Bomb(
        "dense.mp4",
        "cpu_seconds_per_second",
        96,
        whole={"cpu_seconds_at_start": 0.1, "cpu_seconds_per_second": 1.0},
    ),
]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bombs")
    sound_packets(folder / "sound-between.mkv", 20_000)
    sound_packets(folder / "sound-before.mkv", 20_000, picture_first=False)
    repeated_pictures(folder / "large.mp4", 48, SIDE, seconds_each=FRAME)
    repeated_pictures(folder / "dense.mp4", 96, SIDE, seconds_each=Fraction(1, 9000))
    assert all(film.stat().st_size < 300_000 for film in folder.iterdir())
    return folder


async def pictures_read(film: Path, limits: FilmLimits) -> int:
    spawner = Spawner([FILM_MAIN, CUBE_MAIN])
    try:
        async with FilmProcesses(spawner, limits).film(StoredFilm(film)) as process:
            await process.open(OutputSettings())
            await process.begin_stream(OutputSettings())
            pictures = 0
            while (batch := await process.next()) is not None:
                await process.write(batch, batch.frames)
                pictures += len(batch.pts)
            await process.close()
            return pictures
    finally:
        await spawner.close()


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: f"{bomb.film}-{bomb.limit}")
async def test_a_bomb_ends_at_its_limit(films: Path, bomb: Bomb) -> None:
    with pytest.raises(FilmLimitError) as ended:
        await pictures_read(films / bomb.film, bomb.limits)
    assert ended.value.limit == bomb.limit


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: f"{bomb.film}-{bomb.limit}")
async def test_without_the_limit_it_goes_off(films: Path, bomb: Bomb) -> None:
    assert await pictures_read(films / bomb.film, FilmLimits()) == bomb.pictures
