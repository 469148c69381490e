"""One film that many tests read, on both kinds of store; and the library of the running service."""

from collections.abc import Iterator

import pytest

from service.library.latents import Latents, LatentsManifest
from service.storage.folder import FolderStore
from tests.service.latents.library import Library, models_of
from tests.service.latents.test_stored_latents import PART_ROWS, PCA, ROWS
from tests.support.object_stores import LibraryStore, new_bucket
from tests.support.service_process import ServiceProcess
from tests.support.stored_latents import store_film


@pytest.fixture(scope="module", params=["folder", "s3"])
def stored_rows(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Latents, LatentsManifest]]:
    if request.param == "folder":
        folder = tmp_path_factory.mktemp("stored_rows")
        library_store = LibraryStore({"REFILM_STORAGE_DIRECTORY": str(folder)})
    else:
        library_store = new_bucket(request.getfixturevalue("s3_server"))
    store = library_store.open()
    store.prepare()
    film = store_film(store, "read", PCA, ROWS, part_rows=PART_ROWS)
    manifest = Latents(store).find(film.id, PCA.digest)
    assert manifest is not None
    yield Latents(store), manifest
    store.delete(found.key for found in store.list(""))


@pytest.fixture(scope="session")
def library(service: ServiceProcess) -> Library:
    store = FolderStore(service.log.parent / "library")
    store.prepare()
    return Library(service, store, models_of(service))
