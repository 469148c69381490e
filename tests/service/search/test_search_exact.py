"""The engine against the definition of its answer, over a small library in a folder."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.inference import Models
from service.library import layout
from service.library.films import Films
from service.library.latents import Latents
from service.search.engine import Hit, Search
from service.search.refresher import IndexRefresher
from service.search.rerank import Question, similarity_of
from service.storage.folder import FolderStore
from service.storage.threads import StorageThreads
from tests.service.search.oracle import Expected, hits
from tests.support.shots import Shot, pictures, rows_of
from tests.support.stored_latents import Rows, model, store_film

PCA = model("a")

FILMS = {
    "one": [Shot(number, 2.5) for number in range(6)],
    "two": [Shot(7, 8.0, drift=0.0), Shot(2, 3.3, start=1.0), Shot(8, 0.4), Shot(9, 6.0)],
    "three": [Shot(4, 1.7), Shot(7, 2.0, drift=0.0), Shot(4, 1.7), Shot(11, 5.0, drift=1.0)],
}


@dataclass
class Library:
    rows: dict[str, Rows]
    store: FolderStore
    search: Search

    async def all_pages(self, question: Question, sizes: list[int]) -> list[Hit]:
        """Go through all pages, of these sizes in turn."""
        found: list[Hit] = []
        after, depth = None, 0
        for number in range(1000):
            page = await self.search.page(
                question, sizes[number % len(sizes)], after=after, depth=depth
            )
            found += page.hits
            if not page.more:
                return found
            after, depth = page.hits[-1].place, page.depth
        raise AssertionError("the pages do not end")


@contextmanager
def small_library(folder: Path, rows: dict[str, Rows]) -> Iterator[Library]:
    store = FolderStore(folder)
    store.prepare()
    films, latents, threads = Films(store), Latents(store), StorageThreads()
    indexes = IndexRefresher(Models(None), films, latents, threads)
    for film, of_film in rows.items():
        store_film(store, film, PCA, of_film, part_rows=(25, 40))
        manifest = latents.find(film, PCA.digest)
        indexes.get(PCA.digest).add(film, manifest.film_uid, latents.index_rows(manifest))
    search = Search(films, latents, threads, indexes, duplicate_searches=1)
    try:
        yield Library(rows, store, search)
    finally:
        search.close()
        threads.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    rows = {film: rows_of(pictures(shots)) for film, shots in FILMS.items()}
    with small_library(tmp_path_factory.mktemp("exact"), rows) as library:
        yield library


def embedding(rows: Mapping[str, Rows], film: str, row: int, noise: float) -> NDArray[np.float32]:
    vector = rows[film].embeddings[row % len(rows[film].pts)]
    vector = vector + noise * np.random.default_rng(row).normal(size=200) / 200**0.5
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def seen(hit: Hit) -> Expected:
    passage = hit.passage
    return Expected(passage.film, passage.first, passage.end, passage.best, passage.similarity)


TIMES = st.none() | st.integers(0, 40).map(lambda time: Fraction(time, 2))


@settings(max_examples=40, deadline=None)
@given(
    film=st.sampled_from(sorted(FILMS)),
    row=st.integers(0, 400),
    noise=st.sampled_from([0.0, 0.3, 1.0]),
    only=st.none() | st.frozensets(st.sampled_from(sorted(FILMS)), min_size=1),
    start=TIMES,
    length=TIMES,
    minimum=st.sampled_from([0.0, 0.2, 0.8]),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
)
async def test_pages_are_the_whole_list(
    library: Library,
    film: str,
    row: int,
    noise: float,
    only: frozenset[str] | None,
    start: Fraction | None,
    length: Fraction | None,
    minimum: float,
    sizes: list[int],
) -> None:
    """Every passage once, exact to the frame, in order of similarity, whatever the pages' sizes."""
    query = embedding(library.rows, film, row, noise)
    stop = None if length is None else (start or 0) + length + Fraction(1, 2)
    question = Question(PCA.digest, query[np.newaxis], only, start, stop, minimum)

    found = [seen(hit) for hit in await library.all_pages(question, sizes)]

    wanted = {name: rows for name, rows in library.rows.items() if only is None or name in only}
    assert found == hits(
        wanted,
        query,
        minimum=minimum,
        start=None if start is None else float(start),
        stop=None if stop is None else float(stop),
    )


async def test_times_are_those_of_the_frames(library: Library) -> None:
    question = Question(PCA.digest, embedding(library.rows, "two", 5, 0.0)[np.newaxis])

    page = await library.search.page(question, 2)

    again, still = page.hits
    assert (still.film.id, still.start, still.stop) == ("two", 0, 8)
    assert still.best == 0, "of equally similar frames the first"
    assert still.film.title == "Two"
    assert (again.film.id, again.start, again.stop) == ("three", Fraction(5, 3), Fraction(11, 3))


async def test_skipping_leaves_out_the_first(library: Library) -> None:
    question = Question(PCA.digest, embedding(library.rows, "one", 40, 0.3)[np.newaxis])
    whole = await library.all_pages(question, [100])

    skipped = await library.search.page(question, 3, skip=4)
    after = await library.search.page(
        question, 3, skip=2, after=whole[0].place, depth=skipped.depth
    )

    assert [seen(hit) for hit in skipped.hits] == [seen(hit) for hit in whole[4:7]]
    assert [seen(hit) for hit in after.hits] == [seen(hit) for hit in whole[3:6]]


async def test_a_question_of_two_pictures_takes_the_nearer(library: Library) -> None:
    one, other = (embedding(library.rows, film, 3, 0.0) for film in ("one", "two"))

    page = await library.search.page(Question(PCA.digest, np.stack([one, other])), 3)

    best = [(hit.film.id, round(hit.passage.similarity, 5)) for hit in page.hits]
    assert set(best) == {("one", 1.0), ("two", 1.0), ("three", 1.0)}


def test_similarity_of_a_row_is_its_own() -> None:
    """To the last bit, whichever rows are with it, or pages would not fit together."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(97, 200)).astype(np.float16).astype(np.float32)
    query = rng.normal(size=(1, 200)).astype(np.float32)
    query /= np.linalg.norm(query)

    together = similarity_of(rows, query)

    alone = np.concatenate([similarity_of(row[np.newaxis], query) for row in rows])
    assert (together == alone).all()
    exact = rows.astype(np.float64) @ query[0] / np.linalg.norm(rows.astype(np.float64), axis=1)
    assert together == pytest.approx(np.clip(exact, 0, 1), abs=1e-6)


async def test_a_passage_is_whole_however_few_candidates(library: Library) -> None:
    """Three candidates lie in a still of eight seconds: all of it is the passage."""
    question = Question(
        PCA.digest, embedding(library.rows, "two", 5, 0.0)[np.newaxis], frozenset({"two"})
    )

    page = await library.search.page(question, 1, depth=3)

    assert (page.hits[0].passage.first, page.hits[0].passage.end) == (0, 96)


async def test_a_long_still_does_not_crowd_out(tmp_path: Path) -> None:
    """More of its seconds than are looked at are liker than the other film's one shot."""
    still = rows_of(pictures([Shot(7, 300.0, drift=0.0)], rate=2), rate=2)
    other = rows_of(pictures([Shot(8, 5.0), Shot(9, 5.0)]))
    with small_library(tmp_path, {"still": still, "other": other}) as library:
        query = 0.8 * still.embeddings[0] + 0.4 * other.embeddings[80]
        query /= np.linalg.norm(query)

        page = await library.search.page(Question(PCA.digest, query[np.newaxis]), 3)

    assert [hit.film.id for hit in page.hits[:2]] == ["still", "other"]
    assert (page.hits[0].start, page.hits[0].stop) == (0, 300)


async def test_films_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    """One was deleted behind the index's back; of one the rows are gone."""
    shots = {film: [Shot(number, 4.0)] for number, film in enumerate(("kept", "gone", "torn"))}
    rows = {film: rows_of(pictures(of_film)) for film, of_film in shots.items()}
    with small_library(tmp_path, rows) as library:
        store = library.store
        store.delete([layout.film_facts("gone")])
        store.delete(
            info.key
            for info in store.list(layout.latents_folder("torn", PCA.digest))
            if info.key.endswith("0001.embeddings.npy")
        )
        every = np.mean([of_film.embeddings[0] for of_film in rows.values()], axis=0)
        question = Question(PCA.digest, (every / np.linalg.norm(every))[np.newaxis])

        page = await library.search.page(question, 10)

        assert [hit.film.id for hit in page.hits] == ["kept"]
        assert library.search.coverage(PCA.digest).searched == 2, "what is gone is forgotten"
