"""Indexes that keep up with the library; and questions that are refused or given up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from refilm.v1 import latents_pb2 as pb

from service.errors import OverloadedError
from service.inference import Model, ModelVersion
from service.inference.models import Models
from service.library import layout
from service.library.deletion import Deletion
from service.library.films import Films
from service.library.latents import Latents
from service.library.library import Library
from service.limit import Limit
from service.rpc.search_frames import SearchCalls
from service.search.duplicates import DuplicateQuery, find_duplicates
from service.search.ivf_index import StoppedError
from service.search.refresher import IndexRefresher
from service.storage.folder import FolderStore
from service.storage.threads import StorageThreads
from tests.support.probing import probe_here
from tests.support.service_process import wait_for
from tests.support.shots import Shot, pictures, rows_of
from tests.support.stored_latents import model, new_film, store_film, write_parts

PCA = model("b")
SHOT = rows_of(pictures([Shot(1, 4.0)]))
NEVER = 3600.0


class OneModel:
    """A registry that has one version of one model."""

    def list(self) -> tuple[Model, ...]:
        version = ModelVersion(PCA.name, PCA.version, PCA.digest, PCA.recipe, {})
        return (Model(PCA.name, (version,), is_default=True),)


class Kept:
    def __init__(self, folder: Path, poll_seconds: float, exact_rows: int) -> None:
        self.store = FolderStore(folder)
        self.store.prepare()
        self.films, self.latents = Films(self.store), Latents(self.store)
        self.threads = StorageThreads()
        self.indexes = IndexRefresher(
            cast(Models, OneModel()),
            self.films,
            self.latents,
            self.threads,
            poll_seconds=poll_seconds,
            exact_rows=exact_rows,
        )

    @property
    def films_indexed(self) -> set[str]:
        return set(self.indexes.get(PCA.digest).films)

    async def wait_for(self, look: Callable[[], bool]) -> None:
        await asyncio.to_thread(wait_for, look, "the index")


@asynccontextmanager
async def keeping(
    folder: Path, *, poll_seconds: float, exact_rows: int = 50_000, before: str = ""
) -> AsyncIterator[Kept]:
    kept = Kept(folder, poll_seconds, exact_rows)
    if before:
        store_film(kept.store, before, PCA, SHOT)
    task = asyncio.create_task(kept.indexes.keep())
    try:
        if before:
            await kept.wait_for(lambda: kept.films_indexed == {before})
        yield kept
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        kept.threads.close()


async def test_what_this_process_does_is_known_at_once(tmp_path: Path) -> None:
    """The store is looked at once, and never again."""
    async with keeping(tmp_path, poll_seconds=NEVER, before="first") as kept:
        kept.latents.on_committed(kept.indexes.notice)
        deletion = Deletion(kept.store, kept.films)
        deletion.on_deleted(kept.indexes.forget)
        film = new_film("second", SHOT.time_base)
        kept.films.add(film)

        await asyncio.to_thread(
            lambda: kept.latents.commit(write_parts(kept.latents, film, PCA, SHOT))
        )
        await kept.wait_for(lambda: kept.films_indexed == {"first", "second"})
        await asyncio.to_thread(deletion.delete, "first")

        assert kept.films_indexed == {"second"}


async def test_what_others_do_is_seen_in_the_store(tmp_path: Path) -> None:
    async with keeping(tmp_path, poll_seconds=0.02, before="first") as kept:
        other_store = FolderStore(tmp_path)
        store_film(other_store, "second", PCA, SHOT)
        await kept.wait_for(lambda: kept.films_indexed == {"first", "second"})
        await kept.wait_for(lambda: kept.indexes.library_films == 2)

        Deletion(other_store, Films(other_store)).delete("first")

        await kept.wait_for(lambda: kept.films_indexed == {"second"})
        await kept.wait_for(lambda: len(kept.indexes.get(PCA.digest)) == 5)


async def test_a_damaged_film_keeps_no_other_away(tmp_path: Path) -> None:
    async with keeping(tmp_path, poll_seconds=0.02, before="first") as kept:
        film = new_film("damaged", SHOT.time_base)
        manifest = Latents(kept.store).commit(write_parts(kept.latents, film, PCA, SHOT))
        kept.store.delete(
            info.key
            for info in kept.store.list(layout.latents_folder("damaged", PCA.digest))
            if "index." in info.key
        )
        assert manifest.rows == len(SHOT.pts)
        kept.films.add(film)
        kept.store.put(layout.catalog(PCA.digest, "damaged"), b"")
        store_film(kept.store, "last", PCA, SHOT)

        await kept.wait_for(lambda: kept.films_indexed == {"first", "last"})


async def test_an_index_is_trained_in_the_background(tmp_path: Path) -> None:
    async with keeping(tmp_path, poll_seconds=0.02, exact_rows=200) as kept:
        index = kept.indexes.get(PCA.digest)
        rows = rows_of(pictures([Shot(number, 3.0) for number in range(20)], rate=4), rate=4)
        for number in range(4):
            store_film(kept.store, f"film-{number}", PCA, rows)

        await kept.wait_for(lambda: len(kept.films_indexed) == 4 and index.trained)

        (found,) = index.search(rows.embeddings[40:41], 4)
        assert {one.film for one in found} == {f"film-{number}" for number in range(4)}
        assert {one.row for one in found} == {40}


async def test_too_many_searches_are_refused(tmp_path: Path) -> None:
    library = Library.of(
        FolderStore(tmp_path), StorageThreads(), probe_here, film_bytes=1, lease_seconds=1
    )
    full = Limit(0, "searches are in progress", setting="max_searches")
    calls = SearchCalls(None, library, None, None, None, full)

    with pytest.raises(OverloadedError) as refusal:
        await calls.SearchFrames(pb.SearchFramesRequest(), None)

    assert refusal.value.retry_after


def test_a_search_for_duplicates_can_be_given_up(tmp_path: Path) -> None:
    kept = Kept(tmp_path, NEVER, 50_000)
    store_film(kept.store, "film", PCA, SHOT)
    manifest = kept.latents.find("film", PCA.digest)
    index = kept.indexes.get(PCA.digest)
    index.add("film", manifest.film_uid, kept.latents.index_rows(manifest))
    wanted = DuplicateQuery(PCA.digest, None, 0.9, 2.0)

    assert find_duplicates(kept.latents, index, wanted, lambda: False) == []
    with pytest.raises(StoppedError):
        find_duplicates(kept.latents, index, wanted, lambda: True)
    kept.threads.close()
