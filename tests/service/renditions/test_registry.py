"""Works on films of the library, in one process: what they leave when they end."""

import asyncio
import threading
from collections.abc import Generator
from pathlib import Path

from film.limits import FilmLimits
from film.output import OutputSettings
from film.process.film_process import FilmProcesses
from film.process.protocol import FILM_MAIN
from film.process.spawner import Spawner
from service.inference import Inference, ModelVersion
from service.inference.admission import Admission
from service.inference.connection import connect
from service.library.library import Library
from service.library.uploads import UploadSettings
from service.limit import Limit
from service.renditions import Registry, Target
from service.storage.folder import FolderStore
from service.storage.threads import StorageThreads
from tests.support.library_calls import film_bytes
from tests.support.probing import probe_here
from tests.support.service_process import wait_for

MODEL = ModelVersion("pca", 1, "sha256:" + "0" * 64, "pca", {})
SECONDS = 60


class HeldReads(FolderStore):
    """A folder in which nobody gets to read a film's bytes until told so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_go_on = threading.Event()

    def read(
        self, key: str, start: int = 0, size: int | None = None
    ) -> Generator[bytes, None, None]:
        if key.endswith("/source"):
            self.may_go_on.wait(SECONDS)
        yield from super().read(key, start, size)


async def test_a_job_stopped_while_it_ends_leaves_nothing_of_a_deleted_film(
    tmp_path: Path,
) -> None:
    store = HeldReads(tmp_path / "library")
    store.prepare()
    store.may_go_on.set()
    library = Library.of(store, StorageThreads(), probe_here, film_bytes=1 << 30, lease_seconds=1.0)
    upload = library.uploads.open(UploadSettings(film_id="film"))
    upload.write(film_bytes())
    film = upload.finish()
    store.may_go_on.clear()
    nowhere = Inference(connect("127.0.0.1:9"), Admission(64, max_wait_seconds=1))
    spawner = Spawner([FILM_MAIN])
    registry = Registry(
        library,
        nowhere,
        FilmProcesses(spawner, FilmLimits()),
        Limit(1, "films are in progress", setting="max_reconstructions"),
    )

    job_reference = registry.join(Target(film, MODEL, OutputSettings()))
    await asyncio.to_thread(wait_for, lambda: job_reference.job.is_making, "the work")
    await asyncio.to_thread(library.deletion.delete, "film")
    await asyncio.to_thread(wait_for, lambda: not job_reference.job.is_making, "the job's end")
    # It waits for the thread that reads, and has yet to give its lease back.
    job_reference.leave()
    ending = asyncio.ensure_future(registry.close())
    # Time for a work that does not wait to go wrong.
    await asyncio.wait({ending}, timeout=0.5)
    store.may_go_on.set()
    await ending

    await spawner.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=SECONDS)
    assert [found.key for found in store.list("")] == ["deleted/film.json"]
