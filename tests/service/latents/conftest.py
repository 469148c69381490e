"""Stores to keep latents in, and one film that many tests read."""

from pathlib import Path

import pytest

from service.storage.folder import FolderStore
from service.storage.latents import Latents, LatentsManifest
from service.storage.objects import ObjectStore
from tests.service.latents.library import Library, models_of
from tests.service.latents.test_stored_latents import PART_ROWS, PCA, ROWS
from tests.support.service_process import ServiceProcess
from tests.support.stored_latents import store_film


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    store = FolderStore(tmp_path / "library")
    store.prepare()
    return store


@pytest.fixture(scope="module")
def stored_rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Latents, LatentsManifest]:
    store = FolderStore(tmp_path_factory.mktemp("library"))
    store.prepare()
    film = store_film(store, "read", PCA, ROWS, part_rows=PART_ROWS)
    manifest = Latents(store).find(film.id, PCA.digest)
    assert manifest is not None
    return Latents(store), manifest


@pytest.fixture(scope="session")
def library(service: ServiceProcess) -> Library:
    store = FolderStore(service.log.parent / "library")
    store.prepare()
    return Library(service, store, models_of(service))
