"""Answers questions to the latents: which passages of which films look like a picture."""

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
from service.search.duplicates import Wanted, find_duplicates
from service.search.index import RowIndex
from service.search.passage_pairs import PassagePairs, Stretch
from service.search.refresher import IndexRefresher
from service.search.rerank import Passage, Question, passages
from service.storage.threads import StorageThreads

log = structlog.get_logger(__name__)

_LEAST_DEPTH = 50
_DEPTH_A_HIT = 4
DEEPEST = 4096
"""Candidates that are looked at: at least, for each hit that is wanted, and at most."""
_DEEPER = 4
_FILMS_AT_ONCE = 12
"""Films whose rows one question reads at the same time."""

Result = TypeVar("Result")


class Place(NamedTuple):
    """Where in the ranking a passage stands: the least comes first."""

    below_one: float
    """1 minus its similarity."""
    film: str
    best: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage, with what it takes to show it."""

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
        """Where it stands in the ranking."""
        return place_of(self.passage)


@dataclass(frozen=True, slots=True)
class Page:
    """Some hits in order of their rank."""

    hits: list[Hit]
    more: bool
    """Whether more are known."""
    depth: int
    """How many candidates were looked at; the next page must be of the same."""


class Coverage(NamedTuple):
    """Which films an answer is about."""

    searched: int
    left_out: int
    """Films without latents of the model, or not indexed yet."""


class Search:
    """Finds what looks alike. Its methods are coroutines of one event loop."""

    def __init__(
        self,
        films: Films,
        latents: Latents,
        threads: StorageThreads,
        indexes: IndexRefresher,
        *,
        duplicate_searches: int,
    ) -> None:
        """Begin nothing yet; `duplicate_searches`: so many for duplicates can be in work."""
        self._films = films
        self._latents = latents
        self._threads = threads
        self.indexes = indexes
        self._searching = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="search")
        # Of their own: they take minutes.
        self._duplicating = ThreadPoolExecutor(duplicate_searches, thread_name_prefix="duplicates")
        self._closed = Event()

    def close(self) -> None:
        """Begin nothing more, and end what takes long."""
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
        """Return for each query the rows most like it, the most similar first.

        Flat rows are left out, films whose latents are not indexed yet are missing, and films that
        were just deleted may still be there: ask `Films.exists` before answering.

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
        """Return the hits that follow `after` in the ranking and then `skip` others.

        Args:
            question: what is looked for; of each page the same.
            size: at most so many hits.
            skip: leaves out so many before them.
            after: the last hit of the page before; None: from the first hit on.
            depth: the page before's; 0 for the first page, which chooses it.

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

    async def duplicates(self, wanted: Wanted) -> list[PassagePairs]:
        """Return passages that appear more than once, the longest first; see `find_duplicates`.

        Cancelling it ends the work.
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

    async def films_of(self, stretches: Iterable[Stretch]) -> dict[str, Film]:
        """Return by id the films of passages, as far as they still exist."""
        uids = {stretch.film: stretch.film_uid for stretch in stretches}
        found = await asyncio.gather(*(self._threads.run(self._films.find, film) for film in uids))
        return {film.id: film for film in found if film is not None and film.uid == uids[film.id]}

    async def vanished(self, films: Iterable[Film]) -> set[str]:
        """Return the ids of those films that do not exist any more; they are not found again."""
        distinct = list({film.uid: film for film in films}.values())
        exist = await asyncio.gather(
            *(self._threads.run(self._films.exists, film.id, film.uid) for film in distinct)
        )
        gone = [film for film, exists in zip(distinct, exist, strict=True) if not exists]
        for film in gone:
            self.indexes.forget(film.id, film.uid)
        return {film.id for film in gone}

    def coverage(self, digest: str, films: Collection[str] | None = None) -> Coverage:
        """Return how many films an answer is about: of some, by id, or of all."""
        indexed = self.indexes.get(digest).films.keys()
        if films is not None:
            searched = len(indexed & set(films))
            return Coverage(searched, len(set(films)) - searched)
        return Coverage(len(indexed), max(0, self.indexes.library_films - len(indexed)))

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run what takes the processor's time on the threads of searches."""
        return await asyncio.get_running_loop().run_in_executor(self._searching, work)

    async def _ranked(
        self, question: Question, wanted: int, depth: int
    ) -> tuple[list[Passage], int]:
        """Return the passages in order of their rank, and how many candidates it took."""
        index = self.indexes.get(question.digest)
        selection = None
        if question.films is not None or question.start is not None or question.stop is not None:
            start = None if question.start is None else float(question.start)
            stop = None if question.stop is None else float(question.stop)
            selection = await self.run(lambda: index.select(question.films, start, stop))
        is_chosen = depth > 0
        depth = depth or min(DEEPEST, max(_LEAST_DEPTH, _DEPTH_A_HIT * wanted))
        while True:
            found = await self.run(
                lambda depth=depth: index.search(question.embeddings, depth, selection)  # type: ignore[misc] # bound at once
            )
            ranking = await self._reranked(index, question, found)
            # Many candidates may lie in one passage; then there may be others further down.
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
        """Return the hits of passages; of films that were deleted there are none."""
        ids = list({passage.film for passage in some})
        found = await asyncio.gather(*(self._threads.run(self._films.find, film) for film in ids))
        films = dict(zip(ids, found, strict=True))
        hits = await asyncio.gather(
            *(
                self._threads.run(self._hit, digest, passage, films[passage.film])
                for passage in some
            )
        )
        return [hit for hit in hits if hit is not None]

    def _hit(self, digest: str, passage: Passage, film: Film | None) -> Hit | None:
        try:
            if film is not None and film.uid == passage.film_uid:
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
        """Pass over a film whose latents cannot be read: the others can be."""
        if self._films.exists(film, uid):
            log.error("a film cannot be searched", film=film, error=error.message)
        else:
            self.indexes.forget(film, uid)


def place_of(passage: Passage) -> Place:
    """Return where a passage stands: the most similar first, then by film and by time."""
    return Place(1.0 - passage.similarity, passage.film, passage.best)
