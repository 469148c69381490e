"""Searches the latents: which passages of which films look like a picture."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from threading import Event
from typing import NamedTuple, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from service.library.films import Film, Films
from service.library.latents import Latents, LatentsManifest
from service.library.verified_reads import DamagedError
from service.search.candidates import Candidate
from service.search.duplicates import DuplicateQuery, find_duplicates
from service.search.index import RowIndex
from service.search.passage_pairs import FilmRange, PassagePair
from service.search.refresher import IndexRefresher
from service.search.rerank import Passage, Question, passages
from service.storage.threads import StorageThreads

log = structlog.get_logger(__name__)

_MIN_DEPTH = 50
_DEPTH_A_HIT = 4
DEEPEST = 4096
"""Candidates that are looked at: at least, for each hit that is wanted, and at most."""
_DEEPER = 4
_FILMS_AT_ONCE = 12
"""Films whose rows one query reads concurrently."""

Result = TypeVar("Result")


class Place(NamedTuple):
    """A passage's position in the ranking, as a sort key."""

    below_one: float
    """1 minus its similarity."""
    film: str
    best: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage, with its film and times."""

    passage: Passage
    film: Film
    manifest: LatentsManifest
    start: Fraction
    """Of its first frame, in seconds from the film's first; likewise the next two."""
    stop: Fraction
    """The end of its last frame."""
    best: Fraction

    @property
    def place(self) -> Place:
        """Its position in the ranking."""
        return place_of(self.passage)


@dataclass(frozen=True, slots=True)
class Page:
    """Some hits in order of their rank."""

    hits: list[Hit]
    more: bool
    """Whether more are known."""
    depth: int
    """Number of candidates; the next page must use the same."""


class Coverage(NamedTuple):
    """How many films a result covers."""

    searched: int
    left_out: int
    """Films without latents of the model, or not indexed yet."""


class Search:
    """Similarity search; for one event loop."""

    def __init__(
        self,
        films: Films,
        latents: Latents,
        threads: StorageThreads,
        indexes: IndexRefresher,
        *,
        duplicate_searches: int,
    ) -> None:
        """Start nothing yet; `duplicate_searches`: so many for duplicates can be in progress."""
        self._films = films
        self._latents = latents
        self._threads = threads
        self.indexes = indexes
        self._searching = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="search")
        # A separate pool: they take minutes.
        self._duplicating = ThreadPoolExecutor(duplicate_searches, thread_name_prefix="duplicates")
        self._closed = Event()

    def close(self) -> None:
        """Start nothing more, and stop long searches."""
        self._closed.set()
        self._searching.shutdown(wait=False, cancel_futures=True)
        self._duplicating.shutdown(wait=False, cancel_futures=True)

    async def candidates(
        self,
        digest: str,
        embeddings: NDArray[np.float32],
        count: int,
        films: Collection[str] | None = None,
    ) -> list[Sequence[Candidate]]:
        """Return the most similar rows for each query, the most similar first.

        Without flat rows and films that are not indexed yet. May include films that were just
        deleted: check `Films.exists` before answering.

        Args:
            digest: the model's, "sha256:…".
            embeddings: [N, 200], of unit length.
            count: at most so many rows a query.
            films: only of films with these ids; None: of all.
        """
        index = self.indexes.get(digest)

        def search() -> list[Sequence[Candidate]]:
            selection = None if films is None else index.select(films)
            return [*index.search(embeddings, count, selection)]

        return await self.run(search)

    async def page(
        self,
        question: Question,
        size: int,
        *,
        skip: int = 0,
        after: Place | None = None,
        depth: int = 0,
    ) -> Page:
        """Return the hits after `after` in the ranking, skipping `skip`.

        Args:
            question: the query, the same for each page.
            size: at most so many hits.
            skip: number of hits to skip.
            after: the last hit of the page before; None: from the first hit on.
            depth: that of the page before; 0 for the first page.

        Films that were deleted, or whose latents are damaged, are left out.
        """
        ranking, depth = await self._ranked(question, skip + size + 1, depth)
        following = [p for p in ranking if after is None or place_of(p) > after][skip:]
        hits: list[Hit] = []
        taken = 0
        while len(hits) < size and taken < len(following):
            some = following[taken : taken + size - len(hits)]
            taken += len(some)
            hits += await self._hits(question.digest, some)
        return Page(hits, taken < len(following), depth)

    async def duplicates(self, wanted: DuplicateQuery) -> list[PassagePair]:
        """Return passages that appear more than once, the longest first; see `find_duplicates`.

        Can be cancelled.
        """
        index = self.indexes.get(wanted.digest)
        cancelled = Event()

        def stopped() -> bool:
            return cancelled.is_set() or self._closed.is_set()

        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._duplicating, find_duplicates, self._latents, index, wanted, stopped
            )
        finally:
            cancelled.set()

    async def films_of(self, passages: Iterable[FilmRange]) -> dict[str, Film]:
        """Return the films of passages that still exist, by id."""
        uids = {stretch.film: stretch.film_uid for stretch in passages}
        found = await asyncio.gather(
            *(self._threads.run(self._films.find, film, uid) for film, uid in uids.items())
        )
        return {film.id: film for film in found if film is not None}

    async def find_deleted(self, films: Iterable[Film]) -> set[str]:
        """Return the ids of the films that no longer exist, and drop them from the indexes."""
        distinct = list({film.uid: film for film in films}.values())
        exist = await asyncio.gather(
            *(self._threads.run(self._films.exists, film.id, film.uid) for film in distinct)
        )
        gone = [film for film, exists in zip(distinct, exist, strict=True) if not exists]
        for film in gone:
            self.indexes.forget(film.id, film.uid)
        return {film.id for film in gone}

    def coverage(self, digest: str, films: Collection[str] | None = None) -> Coverage:
        """Return how many films a search covers, of some, by id, or of all."""
        indexed = self.indexes.get(digest).films.keys()
        if films is not None:
            searched = len(indexed & set(films))
            return Coverage(searched, len(set(films)) - searched)
        return Coverage(len(indexed), max(0, self.indexes.library_films - len(indexed)))

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run CPU-bound work on the search threads."""
        return await asyncio.get_running_loop().run_in_executor(self._searching, work)

    async def _ranked(
        self, question: Question, wanted: int, depth: int
    ) -> tuple[list[Passage], int]:
        """Return the passages in the order of the ranking, and the number of candidates."""
        index = self.indexes.get(question.digest)
        selection = None
        if question.films is not None or question.start is not None or question.stop is not None:
            start = None if question.start is None else float(question.start)
            stop = None if question.stop is None else float(question.stop)
            selection = await self.run(lambda: index.select(question.films, start, stop))
        is_chosen = depth > 0
        depth = depth or min(DEEPEST, max(_MIN_DEPTH, _DEPTH_A_HIT * wanted))
        while True:
            found = await self.run(
                lambda depth=depth: index.search(question.embeddings, depth, selection)  # type: ignore[misc] # bound at once
            )
            ranking = await self._reranked(index, question, found)
            # Many candidates may be in one passage: fetch more.
            more = any(
                len(one) >= depth and one[-1].similarity >= question.minimum for one in found
            )
            if is_chosen or not more or len(ranking) >= wanted or depth >= DEEPEST:
                return ranking, depth
            depth = min(DEEPEST, depth * _DEEPER)

    async def _reranked(
        self, index: RowIndex, question: Question, found: Iterable[Sequence[Candidate]]
    ) -> list[Passage]:
        rows: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for candidate in (candidate for one in found for candidate in one):
            rows[candidate.film, candidate.film_uid].add(candidate.row)
        if question.own is not None and (
            question.films is None or question.own[0] in question.films
        ):
            rows[question.own[:2]].add(question.own[2])
        places = asyncio.Semaphore(_FILMS_AT_ONCE)

        async def of_film(film: str, uid: str) -> list[Passage]:
            async with places:
                return await self._threads.run(
                    self._passages, index, question, film, uid, rows[film, uid]
                )

        by_film = await asyncio.gather(*(of_film(*key) for key in rows))
        return sorted((passage for some in by_film for passage in some), key=place_of)

    def _passages(
        self, index: RowIndex, question: Question, film: str, uid: str, rows: set[int]
    ) -> list[Passage]:
        try:
            manifest = self._latents.find(film, question.digest)
            if manifest is None or manifest.film_uid != uid:
                return []
            return passages(self._latents, index, manifest, question, rows)
        except DamagedError as error:
            self._damaged(film, uid, error)
            return []

    async def _hits(self, digest: str, some: Sequence[Passage]) -> list[Hit]:
        """Return the hits of passages, without deleted films."""
        wanted = list({(passage.film, passage.film_uid) for passage in some})
        found = await asyncio.gather(*(self._threads.run(self._films.find, *one) for one in wanted))
        films = dict(zip(wanted, found, strict=True))
        hits = await asyncio.gather(
            *(
                self._threads.run(self._hit, digest, each, films[each.film, each.film_uid])
                for each in some
            )
        )
        return [hit for hit in hits if hit is not None]

    def _hit(self, digest: str, passage: Passage, film: Film | None) -> Hit | None:
        try:
            if film is not None:
                manifest = self._latents.find(film.id, digest)
                if manifest is not None:
                    return self._timed(passage, film, manifest)
        except DamagedError as error:
            self._damaged(passage.film, passage.film_uid, error)
        else:
            self.indexes.forget(passage.film, passage.film_uid)
        return None

    def _timed(self, passage: Passage, film: Film, manifest: LatentsManifest) -> Hit:
        end = min(passage.end + 1, manifest.rows)
        pts = self._latents.pts(manifest, passage.first, end).tolist()
        if passage.end == manifest.rows:
            pts.append(manifest.end_pts)
        return Hit(
            passage,
            film,
            manifest,
            manifest.seconds(pts[0]),
            manifest.seconds(pts[-1]),
            manifest.seconds(pts[passage.best - passage.first]),
        )

    def _damaged(self, film: str, uid: str, error: DamagedError) -> None:
        """Skip a film whose latents cannot be read."""
        if self._films.exists(film, uid):
            log.error("a film cannot be searched", film=film, error=error.message)
        else:
            self.indexes.forget(film, uid)


def place_of(passage: Passage) -> Place:
    """Return a passage's position: the most similar first, then by film and time."""
    return Place(1.0 - passage.similarity, passage.film, passage.best)
