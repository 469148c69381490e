"""Which films a request names."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from service.errors import InvalidFieldError, NotFoundError
from service.inference import Models
from service.library.library import Library
from service.library.upload_probe import no_probe
from service.rpc.film_latents import MAX_FILMS, FilmLatents
from service.storage.folder import FolderStore
from service.storage.threads import StorageThreads
from tests.support.stored_latents import new_film


@pytest.fixture
async def film_latents(tmp_path: Path) -> AsyncIterator[FilmLatents]:
    store, threads = FolderStore(tmp_path), StorageThreads(4)
    store.prepare()
    library = Library.of(store, threads, no_probe, film_bytes=1, lease_seconds=1)
    for name in ("one", "two"):
        library.films.add(new_film(name))
    # No model is asked for: nothing but films is.
    yield FilmLatents(cast(Models, None), library)
    threads.close()


async def test_films_are_named_once_or_often(film_latents: FilmLatents) -> None:
    found = await film_latents.films(["films/one", "films/two", "films/one"], "films")

    assert found == {"one", "two"}


async def test_no_name_means_all(film_latents: FilmLatents) -> None:
    assert await film_latents.films([], "films") is None


async def test_a_film_that_is_not_there_is_not_found(film_latents: FilmLatents) -> None:
    with pytest.raises(NotFoundError, match="films/three"):
        await film_latents.films(["films/one", "films/three"], "films")


async def test_a_faulty_name_is_told_by_its_place(film_latents: FilmLatents) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        await film_latents.films(["films/one", "two"], "settings.films")

    assert [fault.field for fault in refused.value.violations] == ["settings.films[1]"]


async def test_too_many_names_are_refused(film_latents: FilmLatents) -> None:
    with pytest.raises(InvalidFieldError, match="at most 1000") as refused:
        await film_latents.films(["films/one"] * (MAX_FILMS + 1), "settings.films")

    assert refused.value.reason == "TOO_MANY_FILMS"
    assert [fault.field for fault in refused.value.violations] == ["settings.films"]
