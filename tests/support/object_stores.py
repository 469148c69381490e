"""Stores for tests: a folder, and a bucket on a real S3 server, each new and empty.

A test that takes `object_store` or `library_store` runs on both.
"""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from service.storage.factory import open_store
from service.storage.objects import ObjectStore
from tests.support.s3_server import S3Access, S3Server, ceph


@dataclass(frozen=True)
class LibraryStore:
    """A store that a service process and a test can both open."""

    environment: dict[str, str]
    """The service's settings: `ServiceProcess(folder, repositories, store.environment)`."""

    def open(self, **changes: str) -> ObjectStore:
        """Return the store, as the service would with these settings and changes to them."""
        # Fields by name: the process's environment must not decide.
        fields: dict[str, Any] = {
            name.removeprefix("REFILM_").lower(): value
            for name, value in {**self.environment, **changes}.items()
        }
        return open_store(Settings(**fields))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Access]:
    """A real S3 server for all tests that leave it running.

    That of REFILM_TEST_S3_ENDPOINT, _ACCESS_KEY and _SECRET_KEY if set; else one is started.
    """
    access = S3Access.of_environment()
    if access is not None:
        yield access
        return
    require_ceph()
    with S3Server(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture(scope="module")
def own_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server for the tests of a module that kill it; they leave it running again."""
    require_ceph()
    with S3Server(tmp_path_factory.mktemp("own_s3") / "server") as server:
        yield server


def require_ceph() -> None:
    """Skip the test if no S3 server can be started; fail it if one is required."""
    missing = S3Server.missing()
    if missing:
        how = (
            f"no S3 server: {', '.join(missing)} not found; {ceph.INSTALL}; or set "
            "REFILM_TEST_S3_ENDPOINT, REFILM_TEST_S3_ACCESS_KEY and REFILM_TEST_S3_SECRET_KEY"
        )
        if os.environ.get("REFILM_TEST_S3_REQUIRED"):
            pytest.fail(how)
        pytest.skip(how)


@pytest.fixture
def bucket_store(s3_server: S3Access) -> LibraryStore:
    """A new bucket."""
    return new_bucket(s3_server)


@pytest.fixture
def folder_store(tmp_path: Path) -> LibraryStore:
    """A new folder."""
    return LibraryStore({"REFILM_STORAGE_DIRECTORY": str(tmp_path / "library")})


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.process)])
def library_store(request: pytest.FixtureRequest) -> LibraryStore:
    """A new store of each kind, prepared, to start services on."""
    name = "folder_store" if request.param == "folder" else "bucket_store"
    store: LibraryStore = request.getfixturevalue(name)
    store.open().prepare()
    return store


@pytest.fixture
def object_store(library_store: LibraryStore) -> Iterator[ObjectStore]:
    """A new store of each kind, open; emptied after the test, since a server may outlive it."""
    store = library_store.open()
    yield store
    store.delete(found.key for found in store.list(""))


def new_bucket(server: S3Access) -> LibraryStore:
    """Return a bucket that nobody else uses; it is created when prepared."""
    return LibraryStore(server.settings(f"test-{uuid.uuid4().hex}"))
