"""The library of the running service."""

import pytest

from service.storage.folder import FolderStore
from tests.support.latents_library import Library, models_of
from tests.support.service_process import ServiceProcess


@pytest.fixture(scope="session")
def library(service: ServiceProcess) -> Library:
    store = FolderStore(service.log.parent / "library")
    store.prepare()
    return Library(service, store, models_of(service))
