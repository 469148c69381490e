"""A library on each kind of store, with one service for all tests that leave it as it was."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.storage.objects import ObjectStore
from tests.support.library_calls import SERVICE, LibraryClient, start_library
from tests.support.object_stores import LibraryStore, new_bucket
from tests.support.service_process import ServiceProcess

MAX_FILM = 40 * 2**20
IDLE_SECONDS = 4


@dataclass
class Library:
    """A service, its store, and a caller."""

    service: ServiceProcess
    kept: LibraryStore
    store: ObjectStore
    client: LibraryClient

    def stored(self, prefix: str = "") -> list[str]:
        """Return the keys of everything that is stored."""
        return [info.key for info in self.store.list(prefix)]


@pytest.fixture(scope="session", params=["folder", pytest.param("s3", marks=pytest.mark.process)])
def running_library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    folder: Path = tmp_path_factory.mktemp(f"library-{request.param}")
    if request.param == "folder":
        kept = LibraryStore({"REFILM_STORAGE_DIRECTORY": str(folder / "library")})
    else:
        kept = new_bucket(request.getfixturevalue("s3_server"))
    limits = {"REFILM_SPOOL_FILM_BYTES": str(MAX_FILM), "REFILM_IDLE_SECONDS": str(IDLE_SECONDS)}
    with start_library(folder / "service", kept, **limits) as service:
        service.wait_until_serving(SERVICE)
        yield Library(service, kept, kept.open(), LibraryClient(service.channel))


@pytest.fixture
def library(running_library: Library) -> Iterator[Library]:
    """A library without films."""
    yield running_library
    running_library.store.delete(info.key for info in running_library.store.list(""))


@pytest.fixture
def bucket_library(library: Library) -> Library:
    if "REFILM_S3_ENDPOINT" not in library.kept.environment:
        pytest.skip("a folder has no URLs")
    return library
