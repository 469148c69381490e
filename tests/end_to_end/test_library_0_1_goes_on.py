"""Work that version 0.1 had begun when it was killed is gone on with by this one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from refilm.v1 import library_pb2 as pb

from service.library import layout
from service.library.films import Films
from service.library.renditions import Renditions
from service.storage.folder import FolderStore
from tests.support.library_0_1 import HALF_ATTEMPT, STANDARD, unpack
from tests.support.library_calls import LibraryClient
from tests.support.reconstruct import read_film
from tests.support.service_process import ROOT, ServiceProcess, wait_for

FRAMES = 42


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def store(folder: Path) -> FolderStore:
    return unpack(folder / "library")


@pytest.fixture(scope="module")
def library(folder: Path, store: FolderStore) -> Iterator[LibraryClient]:
    settings = {"REFILM_LEASE_SECONDS": "1"}
    with ServiceProcess(folder, [ROOT / "model_repository"], settings) as service:
        service.wait_until_serving()
        yield LibraryClient(service.channel)


def succeeded(library: LibraryClient, name: str) -> None:
    request = pb.GetReconstructionRequest(name=name)

    def look() -> bool:
        found = library.stub.GetReconstruction(request, timeout=60).reconstruction
        return found.state == pb.RECONSTRUCTION_STATE_SUCCEEDED

    wait_for(look, f"the end of {name}")


def test_its_jobs_end_well(library: LibraryClient, store: FolderStore) -> None:
    kept = {
        info.key: store.get(info.key)
        for info in store.list(f"films/half/renditions/{STANDARD}/{HALF_ATTEMPT}/")
    }
    succeeded(library, "films/half/reconstructions/3340416fdf654ec5")
    succeeded(library, "films/whole/reconstructions/7aac23f124ad061a")
    manifest = Renditions(store).find("half", STANDARD)
    assert manifest is not None and manifest.frames == FRAMES
    assert manifest.init_key in kept
    assert [segment.key in kept for segment in manifest.segments] == [True, True, False]
    assert all(store.get(key) == data for key, data in kept.items())
    data = library.download(f"films/half/renditions/{STANDARD}")
    made = read_film(data)
    assert len(made.times) == FRAMES and made.times == sorted(made.times)


def test_the_header_is_still_the_same(library: LibraryClient, store: FolderStore) -> None:
    """A segment made today fits behind a header of then."""
    film = Films(store).get("half")
    data = Films(store).source(film).read(0, film.size)
    library.upload(data, film_id="again", title=film.title)
    request = pb.StartReconstructionRequest(film="films/again")
    succeeded(library, library.stub.StartReconstruction(request, timeout=60).reconstruction.name)
    again = Renditions(store).find("again", STANDARD)
    assert again is not None
    old = f"{layout.rendition_folder('half', STANDARD)}{HALF_ATTEMPT}/init.mp4"
    assert store.get(again.init_key) == store.get(old)
