"""A library of small films in a folder, and two services on it that share one Triton."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.service.search.library import SearchLibrary
from tests.support.latents_library import models_of
from tests.support.object_stores import LibraryStore
from tests.support.service_process import ServiceProcess


@pytest.fixture(scope="module")
def search_library(
    service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SearchLibrary]:
    folder = tmp_path_factory.mktemp("search")
    kept = LibraryStore({"REFILM_STORAGE_DIRECTORY": str(folder / "library")})
    kept.open().prepare()
    environment = {**kept.environment, "REFILM_TRITON_ADDRESS": service.triton_address}
    with ExitStack() as stack:
        services = [
            stack.enter_context(ServiceProcess(folder / f"service-{number}", [], environment))
            for number in range(2)
        ]
        for replica in services:
            replica.wait_until_serving()
        yield SearchLibrary(kept.open(), services, models_of(service))
