"""Films put into a store without an upload: facts chosen by the test, and no bytes."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from service.library import layout
from service.library.films import Film
from service.storage.objects import ObjectStore
from tests.support.stored_latents import new_film

TITLES = ("Big Buck Bunny", "Sintel", 'The "Quoted" One', "Blade Runner", "Ünïcode ☂", "")
CONTAINERS = ("mp4", "matroska", "webm")
CODECS = ("h264", "vp9", "av1")
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def synthetic_film(number: int) -> Film:
    """Return a film whose facts follow from its number, with something of each kind."""
    film = new_film(f"film-{number:05d}")
    facts = replace(
        film.facts,
        container=CONTAINERS[number % 3],
        video_codec=CODECS[number // 3 % 3],
        width=320 * (1 + number % 5),
        height=180 * (1 + number % 5),
        duration=None if number % 7 == 0 else Fraction(number * 1001, 24),
    )
    return replace(
        film,
        title=TITLES[number % len(TITLES)],
        size=1000 * number,
        digest=f"sha256:{number:064x}",
        created=FIRST_DAY + timedelta(hours=number),
        facts=facts,
    )


def put_films(store: ObjectStore, films: Iterable[Film]) -> None:
    """Write each film's film.json."""
    with ThreadPoolExecutor(16) as pool:
        for done in [
            pool.submit(store.put, layout.film_facts(film.id), film.encode()) for film in films
        ]:
            done.result()
