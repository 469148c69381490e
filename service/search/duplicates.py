"""Finds passages that appear more than once, within films and across them."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from film.quality import is_flat
from service.library.latents import Latents, LatentsManifest
from service.library.verified_reads import DamagedError
from service.search.candidates import unit
from service.search.index import RowIndex, Selection
from service.search.ivf_index import StoppedError
from service.search.passage_pairs import FilmPair, FilmRange, Hint, PassagePair

log = structlog.get_logger(__name__)

MAX_PAIRS = 10_000
"""Largest number of pairs in a result: the longest ones."""

_HINT_BELOW = 0.4
"""How far below the minimum similarity rows may hint at a passage: both sides are indexed once a
second, so matching frames are up to half a second from the rows."""
_MIN_HINT = 0.3
_STILL = 0.95
"""A row at least this similar to an earlier one, with all rows in between, is of the same static
picture."""
_QUERIES_AT_ONCE = 256
_NEIGHBOURS = 64
_MANY_NEIGHBOURS = 1024
"""For a row whose neighbours all match."""
_OFFSET_SECONDS = 1.5
_QUIET_SECONDS = 6.0
"""Largest gap between the hints of one passage."""


@dataclass(frozen=True, slots=True)
class DuplicateQuery:
    """A search for duplicates."""

    digest: str
    """The model's, "sha256:…"."""
    films: frozenset[str] | None
    """At least one of the two passages is in one of these films, by id; None: any film."""
    minimum: float
    """Minimum similarity of matching frames."""
    seconds: float
    """Minimum length of a passage."""


@dataclass(slots=True)
class _Run:
    hints: list[Hint] = field(default_factory=list)
    end: float = 0.0
    """Of the last hint's static picture, in the first film."""
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class _Rows:
    """A film's rows that are not flat."""

    manifest: LatentsManifest
    embeddings: NDArray[np.float32]
    seconds: NDArray[np.float64]
    first_of_stills: NDArray[np.int64]
    still_ends: NDArray[np.float64]
    """For each of these, the time of the next."""


def find_duplicates(
    latents: Latents, index: RowIndex, wanted: DuplicateQuery, stopped: Callable[[], bool]
) -> list[PassagePair]:
    """Return pairs of passages with the same content, the longest first. Blocks, up to minutes.

    Of passages that overlap in both films only the longest is returned, and no pair that is one
    static shot. Raises StoppedError soon after `stopped` returns True.
    """
    found: list[PassagePair] = []
    films = index.films
    for film in sorted(films if wanted.films is None else films.keys() & wanted.films):
        try:
            rows = _rows(latents, film, films[film], wanted.digest)
        except DamagedError as error:
            log.warning("a film cannot be searched for duplicates", film=film, error=error.message)
            continue
        if rows is not None:
            found += _of_film(latents, index, rows, wanted, stopped)
            found = sorted(found, key=rank)[:MAX_PAIRS]
    return found


def rank(pairs: PassagePair) -> tuple[float, float, str, float, str, float]:
    """Return the sort key of a pair: the longest first."""
    return (
        -round(pairs.seconds, 6),
        -pairs.similarity,
        pairs.first.film,
        float(pairs.first.start),
        pairs.second.film,
        float(pairs.second.start),
    )


def _of_film(
    latents: Latents,
    index: RowIndex,
    rows: _Rows,
    wanted: DuplicateQuery,
    stopped: Callable[[], bool],
) -> list[PassagePair]:
    """Return a film's duplicates in itself and in others, each pair of films once."""
    hints: defaultdict[tuple[str, str], list[tuple[Hint, float]]] = defaultdict(list)
    own = rows.manifest.film, rows.manifest.film_uid
    for block in _blocks(rows):
        if stopped():
            raise StoppedError
        hints[own] += _hints_within(rows, block, wanted)
    others = _others(index, rows, wanted)
    for block in _blocks(rows):
        if stopped():
            raise StoppedError
        for key, hint in _hints_across(index, rows, block, wanted, others):
            hints[key].append(hint)
    found = []
    for (film, uid), of_film in hints.items():
        try:
            other = latents.find(film, wanted.digest)
            if other is None or other.film_uid != uid:
                continue
            pair = FilmPair(latents, rows.manifest, other, wanted.minimum)
            found += _maximal(_passage_pairs(pair, of_film, wanted, stopped))
        except DamagedError as error:
            log.warning("a film cannot be searched for duplicates", film=film, error=error.message)
    return found


def _rows(latents: Latents, film: str, uid: str, digest: str) -> _Rows | None:
    manifest = latents.find(film, digest)
    if manifest is None or manifest.film_uid != uid:
        return None
    indexed = latents.index_rows(manifest)
    chosen = ~is_flat(indexed.detail)
    embeddings, seconds = unit(indexed.embeddings[chosen]), indexed.seconds[chosen]
    if not len(seconds):
        return None
    firsts = [0]
    for place in range(1, len(seconds)):
        if float(embeddings[place] @ embeddings[firsts[-1]]) < _STILL:
            firsts.append(place)
    ends = np.append(seconds[firsts[1:]], seconds[-1] + 1.0)
    return _Rows(manifest, embeddings, seconds, np.array(firsts, np.int64), ends)


def _blocks(rows: _Rows) -> Iterator[slice]:
    """Yield the static pictures in blocks."""
    for start in range(0, len(rows.first_of_stills), _QUERIES_AT_ONCE):
        yield slice(start, start + _QUERIES_AT_ONCE)


def _hints_within(rows: _Rows, block: slice, wanted: DuplicateQuery) -> list[tuple[Hint, float]]:
    """Return later rows of the film that look like a static picture, outside its own shot."""
    firsts, ends = rows.first_of_stills[block], rows.still_ends[block]
    similarity = rows.embeddings[firsts] @ rows.embeddings.T
    hints = []
    for place, end, cosines in zip(firsts.tolist(), ends.tolist(), similarity, strict=True):
        unlike = np.flatnonzero(cosines[place:] < wanted.minimum)
        if not len(unlike):
            continue
        beyond = place + int(unlike[0])
        alike = beyond + np.flatnonzero(cosines[beyond:] >= _min_hint(wanted))
        for other in alike[np.argsort(-cosines[alike])[:_NEIGHBOURS]].tolist():
            hint = Hint(
                float(rows.seconds[place]), float(rows.seconds[other]), float(cosines[other])
            )
            hints.append((hint, end))
    return hints


def _hints_across(
    index: RowIndex, rows: _Rows, block: slice, wanted: DuplicateQuery, others: Selection
) -> Iterator[tuple[tuple[str, str], tuple[Hint, float]]]:
    """Yield rows of other films that look like a static picture, by film id and uid."""
    firsts, ends = rows.first_of_stills[block], rows.still_ends[block]
    least = _min_hint(wanted)
    queries = rows.embeddings[firsts]
    found = index.search(queries, _NEIGHBOURS, others, minimum=least, quick=True)
    crowded = [number for number, one in enumerate(found) if len(one) == _NEIGHBOURS]
    if crowded:
        # A long static shot may have crowded out all others.
        more = index.search(queries[crowded], _MANY_NEIGHBOURS, others, minimum=least, quick=True)
        for number, candidates in zip(crowded, more, strict=True):
            found[number] = candidates
    for place, end, candidates in zip(firsts.tolist(), ends.tolist(), found, strict=True):
        for candidate in candidates:
            hint = Hint(float(rows.seconds[place]), candidate.seconds, candidate.similarity)
            yield (candidate.film, candidate.film_uid), (hint, end)


def _others(index: RowIndex, rows: _Rows, wanted: DuplicateQuery) -> Selection:
    """Select the films to compare this one with, so that each pair is compared once."""
    film = rows.manifest.film
    return index.select(
        [
            other
            for other in index.films
            if other > film or (other != film and not _is_selected(other, wanted.films))
        ]
    )


def _is_selected(film: str, films: Collection[str] | None) -> bool:
    return films is None or film in films


def _passage_pairs(
    pair: FilmPair,
    hints: list[tuple[Hint, float]],
    wanted: DuplicateQuery,
    stopped: Callable[[], bool],
) -> list[PassagePair]:
    found: list[PassagePair] = []
    for run in _runs(hints):
        if stopped():
            raise StoppedError
        pairs = pair.pairs(run.hints)
        if pairs is not None and pairs.seconds >= wanted.seconds - 1e-6:
            found.append(pairs)
    return found


def _runs(hints: list[tuple[Hint, float]]) -> list[_Run]:
    """Group successive hints of about the same offset."""
    runs: list[_Run] = []
    open_runs: list[_Run] = []
    for hint, end in sorted(hints, key=lambda pair: (pair[0].first, pair[0].second)):
        offset = hint.second - hint.first
        open_runs = [run for run in open_runs if hint.first - run.end <= _QUIET_SECONDS]
        near = [run for run in open_runs if abs(run.offset - offset) <= _OFFSET_SECONDS]
        run = min(near, key=lambda run: abs(run.offset - offset), default=None)
        if run is None:
            run = _Run()
            runs.append(run)
            open_runs.append(run)
            run.offset = offset
        run.hints.append(hint)
        run.end = max(run.end, end)
    return runs


def _maximal(found: list[PassagePair]) -> list[PassagePair]:
    """Return the longest of the pairs that overlap in both films."""
    kept: list[PassagePair] = []
    for pairs in sorted(found, key=rank):
        if not any(
            _overlap(pairs.first, other.first) and _overlap(pairs.second, other.second)
            for other in kept
        ):
            kept.append(pairs)
    return kept


def _overlap(one: FilmRange, other: FilmRange) -> bool:
    return one.start < other.stop and other.start < one.stop


def _min_hint(wanted: DuplicateQuery) -> float:
    return max(_MIN_HINT, wanted.minimum - _HINT_BELOW)
