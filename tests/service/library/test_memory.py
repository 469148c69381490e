"""Memory of the service does not follow the number of films, or the size of one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from refilm.v1 import library_pb2 as pb

from service.library import layout
from service.library.films import Film, Films
from service.storage.objects import ObjectStore
from tests.support.library_calls import SERVICE, TIMEOUT, LibraryClient, film_bytes, start_library
from tests.support.library_films import synthetic_film
from tests.support.memory import Watched
from tests.support.object_stores import LibraryStore
from tests.support.service_process import ServiceProcess

MIB = 2**20
PART = bytes(8 * MIB)


@pytest.fixture
def fresh_service(library_store: LibraryStore, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service that has answered some calls before, so that what is loaded once is loaded."""
    with start_library(tmp_path / "service", library_store) as service:
        service.wait_until_serving(SERVICE)
        client = LibraryClient(service.channel)
        film = client.upload(film_bytes(), film_id="first")
        for _ in range(3):
            client.download(film.name)
            client.all()
        yield service


def large_film(store: ObjectStore, size: int) -> Film:
    """Keep a film whose source is `size` zeros, composed within the store."""
    film = replace(synthetic_film(0), size=size)
    store.put("uploads/zeros/source", PART)
    store.compose(layout.film_source(film.id), ["uploads/zeros/source"] * (size // len(PART)))
    store.delete(["uploads/zeros/source"])
    Films(store).add(film)
    return film


def test_a_download_is_flat_in_memory(
    library_store: LibraryStore, fresh_service: ServiceProcess, request: pytest.FixtureRequest
) -> None:
    store = library_store.open()
    size = (256 if "folder" in request.node.name else 96) * MIB
    film = large_film(store, size)
    stub = LibraryClient(fresh_service.channel).stub
    ask = pb.DownloadFilmRequest(name=f"films/{film.id}")
    with Watched(fresh_service.process.pid) as memory:
        # Some who do not take what they asked for, and one who takes all.
        waiting = [stub.DownloadFilm(ask, timeout=TIMEOUT) for _ in range(4)]
        for responses in waiting:
            next(responses)
        taken = sum(len(response.chunk) for response in stub.DownloadFilm(ask, timeout=TIMEOUT))
        for responses in waiting:
            responses.cancel()
    assert taken == size
    assert memory.growth < 64 * MIB


def test_lists_are_flat_in_memory(folder_store: LibraryStore, tmp_path: Path) -> None:
    store = folder_store.open()
    store.prepare()
    folder = Path(folder_store.environment["REFILM_STORAGE_DIRECTORY"])
    for number in range(2000):  # Not through the store: it would wait for the disk each time.
        film = synthetic_film(number)
        path = folder / layout.film_facts(film.id)
        path.parent.mkdir(parents=True)
        path.write_bytes(film.encode())
    with start_library(tmp_path / "service", folder_store) as service:
        service.wait_until_serving(SERVICE)
        client = LibraryClient(service.channel)
        for _ in range(3):
            client.page(page_size=200)
        with Watched(service.process.pid) as memory:
            assert len(client.all(page_size=200)) == 2000
            assert len(client.all(filter="film_id = film-01999")) == 1
    assert memory.growth < 16 * MIB
