"""The index of one model, with about one row a second of each film. Uses faiss.

Few or new rows are searched exactly; once there are many they move to a trained index, which is
retrained whenever it has grown to four times the size that it was trained for.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection
from dataclasses import dataclass
from threading import Lock
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from film.quality import is_flat
from service.library.latents import LATENT_SIZE, IndexRows
from service.search.candidates import Candidate, unit
from service.search.ivf_index import LIST_SAMPLE, StoppedError, TrainedIndex, lists_for
from service.search.shared_lock import SharedLock

EXACT_ROWS = 50_000
"""Up to so many rows are searched exactly: about seven feature films, 40 MB."""
_WAITING = 4
"""While an index is trained, so many times `exact_rows` may wait."""
GROWTH = 4
"""Growth factor after which a trained index is retrained."""
_MOVED_AT_ONCE = 1024
SECOND = 1.0
"""Rows are at most about so far apart, in seconds."""


@dataclass(frozen=True, slots=True)
class FilmRows:
    """A film in the index."""

    film: str
    """Its id."""
    uid: str
    first: int
    """The id of its first row; the others follow, flat rows' ids unused."""
    rows: NDArray[np.int32]
    """Their numbers in the film's latents, increasing, flat ones included."""
    seconds: NDArray[np.float32]
    detail_enough: NDArray[np.bool_]
    """Which rows are not flat; only these can be found."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows may be found."""

    bits: NDArray[np.uint8]
    """A bit for each id, lowest first; further ids are not selected."""
    share: float
    """Share of all rows that is selected."""


class RowIndex:
    """One model's rows.

    `search`, `select`, `window`, `hide` and what is asked of films: from any thread, at any time.
    `add`, `compact` and `move_rows` from one thread, `train` from one, too.
    """

    def __init__(self, *, exact_rows: int = EXACT_ROWS) -> None:
        self._exact_rows = exact_rows
        self._lock = SharedLock()
        """Over the two faiss indexes."""
        self._exact: Any = _exact_index()
        self._trained: TrainedIndex | None = None
        self._trained_for = 0
        self._training = False
        self._films_lock = Lock()
        self._films: dict[str, FilmRows] = {}
        self._starts: list[int] = []
        self._in_order: list[FilmRows] = []
        """As `_starts`, by id of the first row; among them those that are hidden."""
        self._hidden: list[FilmRows] = []
        self._next_id = 0

    def __len__(self) -> int:
        """Return how many rows can be found."""
        with self._lock.shared():
            return int(self._exact.ntotal) + (len(self._trained) if self._trained else 0)

    @property
    def films(self) -> dict[str, str]:
        """The uids of the indexed films, by id."""
        with self._films_lock:
            return {film: block.uid for film, block in self._films.items()}

    @property
    def trained(self) -> bool:
        """Whether most rows are searched by a trained index."""
        return self._trained is not None

    @property
    def is_full(self) -> bool:
        """Whether no film should be added until the current training has ended."""
        return self._training and int(self._exact.ntotal) >= _WAITING * self._exact_rows

    def add(self, film: str, uid: str, index_rows: IndexRows) -> None:
        """Add or replace a film."""
        self.hide(film)
        block = FilmRows(
            film,
            uid,
            self._next_id,
            index_rows.rows.astype(np.int32),
            index_rows.seconds.astype(np.float32),
            ~is_flat(index_rows.detail),
        )
        self._next_id += len(block.rows)
        places = np.flatnonzero(block.detail_enough)
        vectors = unit(index_rows.embeddings[places])
        with self._films_lock:
            self._films[film] = block
            self._starts.append(block.first)
            self._in_order.append(block)
        with self._lock.alone():
            self._exact.add_with_ids(vectors, block.first + places)

    def hide(self, film: str, uid: str | None = None) -> None:
        """Hide a film from searches at once; with `uid`, only if it is that film."""
        with self._films_lock:
            block = self._films.get(film)
            if block is not None and uid in (None, block.uid):
                self._hidden.append(self._films.pop(film))

    def compact(self) -> None:
        """Free the memory of hidden films; not while an index is trained."""
        if self._training or not self._hidden:
            return
        with self._films_lock:
            hidden, self._hidden = self._hidden, []
            gone = {block.first for block in hidden}
            self._in_order = [block for block in self._in_order if block.first not in gone]
            self._starts = [block.first for block in self._in_order]
        ids = np.concatenate(
            [np.arange(block.first, block.first + len(block.rows)) for block in hidden]
        )
        with self._lock.alone():
            self._exact.remove_ids(faiss.IDSelectorBatch(ids))
            if self._trained is not None:
                self._trained.remove(ids)

    def move_rows(self) -> bool:
        """Move rows to the trained index if there are many; return whether to call `train`."""
        if self._training or self._exact.ntotal < self._exact_rows:
            return False
        trained = self._trained
        if trained is None or len(self) >= GROWTH * self._trained_for:
            # Said here, not in `train`: what begins soon must find the rows as they are now.
            self._training = True
            return True
        ids, vectors = self._exact_rows_now()
        for start in range(0, len(ids), _MOVED_AT_ONCE):
            # In small steps, so that searches can run in between; rows are briefly in both.
            some = slice(start, start + _MOVED_AT_ONCE)
            with self._lock.alone():
                trained.add(vectors[some], ids[some])
        with self._lock.alone():
            self._exact.reset()
        return False

    def train(self, stopped: Callable[[], bool]) -> None:
        """Train an index for the current rows after `move_rows` returned True; takes minutes.

        Searches and additions continue meanwhile. Aborts soon after `stopped` returns True.
        """
        try:
            ids, vectors = self._exact_rows_now()
            rows = len(self)
            # What it will hold half the way until it is trained again.
            lists = lists_for(rows * GROWTH // 2)
            random = np.random.default_rng(rows)
            old, wanted = self._trained, LIST_SAMPLE * lists
            chosen = random.random(len(vectors)) < wanted / rows
            sample = vectors[chosen]
            if old is not None:
                sample = np.concatenate([sample, old.sample(wanted * len(old) // rows, random)])
            elif len(sample) < lists:
                sample = vectors
            trained = TrainedIndex.train(sample, lists, stopped, old)
            for start in range(0, len(ids), _MOVED_AT_ONCE):
                if stopped():
                    raise StoppedError
                some = slice(start, start + _MOVED_AT_ONCE)
                trained.add(vectors[some], ids[some])
            with self._lock.alone():
                self._trained, self._trained_for = trained, rows
                # Rows added meanwhile.
                kept, added = _ids(self._exact)[len(ids) :], _vectors(self._exact)[len(ids) :]
                self._exact = _exact_index()
                self._exact.add_with_ids(added, kept)
        except StoppedError:
            pass
        finally:
            self._training = False

    def select(
        self,
        films: Collection[str] | None = None,
        start: float | None = None,
        stop: float | None = None,
        only: Callable[[FilmRows], NDArray[np.bool_]] | None = None,
    ) -> Selection:
        """Select the rows of some films, in a time range, and by a further rule.

        Args:
            films: their ids; None: all.
            start: seconds from each film's first frame; None: from there.
            stop: seconds; None: to the end.
            only: returns a mask of a film's rows [M].
        """
        with self._films_lock:
            wanted = [self._films[film] for film in films or () if film in self._films]
            if films is None:
                wanted = list(self._films.values())
            bits = np.zeros(self._next_id, np.bool_)
        for block in wanted:
            chosen = block.detail_enough.copy()
            if start is not None:
                chosen &= block.seconds > start - SECOND
            if stop is not None:
                chosen &= block.seconds < stop + SECOND
            if only is not None:
                chosen &= only(block)
            bits[block.first : block.first + len(chosen)] = chosen
        share = float(np.count_nonzero(bits)) / max(1, len(self))
        return Selection(np.packbits(bits, bitorder="little"), min(1.0, share))

    def search(
        self,
        queries: NDArray[np.float32],
        count: int,
        selection: Selection | None = None,
        *,
        minimum: float = -1.0,
        quick: bool = False,
    ) -> list[list[Candidate]]:
        """Return for each query [N, 200] at most `count` rows, the most similar first.

        `minimum`: only rows at least so similar. `quick`: in a large index, finds the most similar
        rows only.
        """
        faiss.omp_set_num_threads(1)  # of this thread: several searches go on at once
        queries = unit(queries)
        similarities, ids = self._nearest(queries, count, selection, quick)
        found, missing = self._located(similarities, ids, minimum)
        if missing and selection is None:
            # Rows of hidden films took the places of others.
            similarities, ids = self._nearest(queries, count, self.select(), quick)
            found, _ = self._located(similarities, ids, minimum)
        return found

    def window(self, film: str, uid: str, row: int, reach: int = 1) -> tuple[int, int] | None:
        """Return the range of rows from `reach` indexed rows before a row to as many after it.

        The first and the one after the last; None if the film is not indexed.
        """
        with self._films_lock:
            block = self._films.get(film)
        if block is None or block.uid != uid or not len(block.rows):
            return None
        before = bisect_left(block.rows, row) - reach
        after = bisect_right(block.rows, row) + reach - 1
        low = int(block.rows[before]) if before >= 0 else 0
        return low, int(block.rows[min(after, len(block.rows) - 1)]) + 1

    def _nearest(
        self,
        queries: NDArray[np.float32],
        count: int,
        selection: Selection | None,
        quick: bool,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return similarities and ids [N, count or more], best first; id -1: there are no more."""
        selector: Any = None
        share = 1.0
        if selection is not None:
            # faiss' types do not know that Python gives it the array alone.
            bitmap: Any = faiss.IDSelectorBitmap
            selector, share = bitmap(selection.bits), selection.share
        with self._lock.shared():
            parameters = faiss.SearchParameters()
            if selector is not None:
                parameters.sel = selector
            similarities, ids = self._exact.search(queries, count, params=parameters)
            if self._trained is not None:
                more = self._trained.search(queries, count, selector, share, quick=quick)
                similarities = np.concatenate([similarities, more[0]], axis=1)
                ids = np.concatenate([ids, more[1]], axis=1)
                similarities[_repeated(ids)] = -np.inf
        # Ties are broken by id, for a stable order.
        order = np.lexsort((ids, -similarities), axis=1)[:, :count]
        return (
            np.take_along_axis(similarities, order, axis=1),
            np.take_along_axis(ids, order, axis=1),
        )

    def _located(
        self, similarities: NDArray[np.float32], ids: NDArray[np.int64], minimum: float
    ) -> tuple[list[list[Candidate]], bool]:
        """Return the rows of each query, and whether some belong to films that are hidden."""
        found: list[list[Candidate]] = []
        missing = False
        with self._films_lock:
            for query_ids, query_similarities in zip(ids, similarities, strict=True):
                wanted = (query_ids >= 0) & (query_similarities >= minimum)
                of_query: list[Candidate] = []
                for row_id, similarity in zip(
                    query_ids[wanted].tolist(), query_similarities[wanted].tolist(), strict=True
                ):
                    block = self._block(row_id)
                    if block is not None:
                        of_query.append(_candidate(block, row_id - block.first, similarity))
                    else:
                        missing = True
                found.append(of_query)
        return found, missing

    def _block(self, row_id: int) -> FilmRows | None:
        """Return the film of a row, None if it is hidden or was removed."""
        number = bisect_right(self._starts, row_id) - 1
        if number < 0:
            return None
        block = self._in_order[number]
        is_its = row_id < block.first + len(block.rows)
        return block if is_its and self._films.get(block.film) is block else None

    def _exact_rows_now(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        with self._lock.shared():
            return _ids(self._exact), _vectors(self._exact)


def _candidate(block: FilmRows, place: int, similarity: float) -> Candidate:
    return Candidate(
        block.film,
        block.uid,
        int(block.rows[place]),
        float(block.seconds[place]),
        max(-1.0, min(1.0, similarity)),
    )


def _repeated(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of each query's ids [N, M] appear earlier in its row."""
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    repeated = np.zeros(ids.shape, np.bool_)
    same = np.concatenate([np.zeros((len(ids), 1), np.bool_), ordered[:, 1:] == ordered[:, :-1]], 1)
    np.put_along_axis(repeated, order, same, axis=1)
    return repeated


def _exact_index() -> faiss.IndexIDMap2:
    return faiss.IndexIDMap2(faiss.IndexFlatIP(LATENT_SIZE))


def _ids(index: faiss.IndexIDMap2) -> NDArray[np.int64]:
    ids: NDArray[np.int64] = faiss.vector_to_array(index.id_map).astype(np.int64)
    return ids


def _vectors(index: faiss.IndexIDMap2) -> NDArray[np.float32]:
    """Return a copy of its vectors, [N, 200], in the order of `_ids`."""
    if not index.ntotal:
        return np.empty((0, LATENT_SIZE), np.float32)
    flat: Any = faiss.downcast_index(index.index)
    vectors = faiss.rev_swig_ptr(flat.get_xb(), index.ntotal * LATENT_SIZE)
    return np.array(vectors).reshape(-1, LATENT_SIZE)
