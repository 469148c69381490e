"""A film's latents in the bucket: written in parts, committed by a manifest, read by row and time.

Reads are lazy: rows by range GET, all of them part by part. The caller must check that the film
still exists before each response.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.library import layout
from service.library.films import film_deleted
from service.library.latents_manifest import LatentsManifest as LatentsManifest
from service.library.latents_manifest import LatentsPart as LatentsPart
from service.library.latents_reader import (
    DETAIL,
    EMBEDDINGS,
    LATENTS,
    PTS,
    LatentsReader,
    NpyKind,
    beside,
)
from service.library.latents_reader import LATENT_SIZE as LATENT_SIZE
from service.library.latents_reader import LatentsChunk as LatentsChunk
from service.library.latents_reader import TimeOutOfRangeError as TimeOutOfRangeError
from service.storage.objects import ObjectNotFoundError, ObjectStore, delete_below, is_there

Listener: TypeAlias = Callable[[str, str], None]
"""Called with a film's id and a model's digest, on any thread; must not block, must not raise."""

_INDEX_ROWS = NpyKind("index.rows.npy", np.dtype("<i8"), ())
_INDEX_EMBEDDINGS = NpyKind("index.embeddings.npy", np.dtype("<f2"), (LATENT_SIZE,))
_INDEX_DETAIL = NpyKind("index.detail.npy", np.dtype("<f4"), ())
_INDEX_SECONDS = NpyKind("index.seconds.npy", np.dtype("<f8"), ())

_MANIFESTS_KEPT = 32
"""Manifests cached in memory: a feature film's is about a megabyte."""


class IndexRows(NamedTuple):
    """About one row per second, for a search index."""

    rows: NDArray[np.int64]
    """Row numbers in the film, [M], increasing."""
    embeddings: NDArray[np.float32]
    """[M, 200]"""
    detail: NDArray[np.float32]
    """[M]"""
    seconds: NDArray[np.float64]
    """Seconds from the film's first frame, [M]."""


class Latents(LatentsReader):
    """The latents of all films. Blocking and thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._manifest = lru_cache(_MANIFESTS_KEPT)(self._read_manifest)
        self._listeners: list[Listener] = []

    def on_committed(self, listener: Listener) -> None:
        """Call `listener` whenever this process has committed latents."""
        self._listeners.append(listener)

    def write_part(
        self,
        film: str,
        digest: str,
        attempt: str,
        number: int,
        *,
        latents: NDArray[np.float32],
        embeddings: NDArray[np.float32],
        pts: NDArray[np.int64],
        detail: NDArray[np.float32],
    ) -> LatentsPart:
        """Write the next rows of an attempt; idempotent.

        Args:
            film: the film's id.
            digest: the model's digest, "sha256:…".
            attempt: the attempt's name.
            number: the part's number, from 1.
            latents: [N, 200], N at least 1.
            embeddings: [N, 200]; stored as float16.
            pts: [N] in the film's time base, increasing.
            detail: [N], how much there is to see.
        """
        if not len(latents) == len(embeddings) == len(pts) == len(detail) > 0:
            raise ValueError("a part has at least one row, and all of each row")
        key = f"{layout.latents_folder(film, digest)}{attempt}/{number:06d}.npy"
        digests = {}
        for kind, array in (
            (LATENTS, latents),
            (PTS, pts),
            (EMBEDDINGS, embeddings),
            (DETAIL, detail),
        ):
            data = kind.encode(array)
            self._store.put(beside(key, kind), data)
            digests[kind] = hashlib.sha256(data).hexdigest()
        return LatentsPart(
            key,
            len(pts),
            int(pts[0]),
            int(pts[-1]),
            digests[LATENTS],
            digests[PTS],
            digests[EMBEDDINGS],
            digests[DETAIL],
        )

    def commit(self, manifest: LatentsManifest) -> LatentsManifest:
        """Commit an attempt as the film's latents unless another was faster; return the winner.

        Writes the index arrays first and the catalog's entry last. A loser's attempt is removed.
        Raises NotFoundError if the film was deleted meanwhile, or DamagedError.
        """
        film, digest = manifest.film, manifest.model.digest
        existing = self.find(film, digest)
        if existing is not None:
            return existing
        index = self._make_index(manifest)
        manifest = replace(manifest, index_rows=len(index.rows))
        folder = _attempt_folder(manifest)
        for kind, array in _index_files(index):
            self._store.put(folder + kind.suffix, kind.encode(array))
        self._store.create(_manifest_key(film, digest), manifest.encode())
        winner = self.find(film, digest)
        if winner is None:
            raise film_deleted(film)
        for listener in self._listeners:
            listener(film, digest)
        return winner

    def drop_attempt(self, film: str, digest: str, attempt: str) -> None:
        """Remove an attempt's objects unless it was committed."""
        manifest = self.find(film, digest)
        if manifest is not None and attempt in manifest.attempts:
            return
        folder = f"{layout.latents_folder(film, digest)}{attempt}/"
        delete_below(self._store, folder)

    def find(self, film: str, digest: str) -> LatentsManifest | None:
        """Return a film's latents for a model, or None; raises DamagedError."""
        try:
            return self._manifest(film, layout.hexadecimal(digest))
        except ObjectNotFoundError:
            return None

    def list(self, film: str) -> Iterator[LatentsManifest]:
        """Yield a film's latents for all models, by digest."""
        for name in self._store.folders(f"{layout.film_folder(film)}latents/"):
            manifest = self.find(film, name)
            if manifest is not None:
                yield manifest

    def catalog(self, digest: str, *, after: str = "") -> Iterator[str]:
        """Yield the ids after `after` of films with latents for a model, by id."""
        folder = layout.catalog_folder(digest)
        for info in self._store.list(folder, after=folder + after if after else ""):
            yield info.key.removeprefix(folder)

    def index_rows(self, manifest: LatentsManifest) -> IndexRows:
        """Return about one row per second: at or right after each full second, and the last one."""
        rows, embeddings, detail, seconds = (
            self.array(
                manifest.film,
                _attempt_folder(manifest) + kind.suffix,
                kind,
                manifest.index_rows,
                "the search index's part of the latents",
            )
            for kind in (_INDEX_ROWS, _INDEX_EMBEDDINGS, _INDEX_DETAIL, _INDEX_SECONDS)
        )
        return IndexRows(
            rows.astype(np.int64, copy=False),
            embeddings.astype(np.float32),
            detail.astype(np.float32, copy=False),
            seconds.astype(np.float64, copy=False),
        )

    def _read_manifest(self, film: str, digest: str) -> LatentsManifest:
        data = self._store.get(_manifest_key(film, digest))
        manifest = LatentsManifest.decode(data, film, digest)
        self._complete_catalog(film, digest)
        return manifest

    def _make_index(self, manifest: LatentsManifest) -> IndexRows:
        """Pick the rows, reading the stored parts one by one."""
        rows: list[int] = []
        seconds: list[float] = []
        embeddings: list[NDArray[np.generic]] = []
        detail: list[NDArray[np.generic]] = []
        second = -1
        for number, first in enumerate(manifest.starts()):
            whole = slice(0, manifest.parts[number].rows)
            picked = []
            for place, pts in enumerate(
                self.in_part(manifest, PTS, number, whole).astype(np.int64).tolist()
            ):
                time = manifest.seconds(pts)
                is_last = first + place == manifest.rows - 1
                if time // 1 > second or is_last:
                    picked.append(place)
                    rows.append(first + place)
                    seconds.append(float(time))
                second = int(time // 1)
            if picked:
                embeddings.append(self.in_part(manifest, EMBEDDINGS, number, whole)[picked])
                detail.append(self.in_part(manifest, DETAIL, number, whole)[picked])
        return IndexRows(
            np.array(rows, np.int64),
            np.concatenate(embeddings).astype(np.float32),
            np.concatenate(detail).astype(np.float32),
            np.array(seconds, np.float64),
        )

    def _complete_catalog(self, film: str, digest: str) -> None:
        """Add the film to the model's catalog unless it is there or was deleted meanwhile."""
        entry, facts = layout.catalog(digest, film), layout.film_facts(film)
        if is_there(self._store, entry) or not is_there(self._store, facts):
            return
        self._store.put(entry, b"")
        # A deletion removes film.json first: undo what was written after that.
        if not is_there(self._store, facts):
            self._store.delete([entry])


def _manifest_key(film: str, digest: str) -> str:
    return f"{layout.latents_folder(film, digest)}manifest.json"


def _attempt_folder(manifest: LatentsManifest) -> str:
    return f"{layout.latents_folder(manifest.film, manifest.model.digest)}{manifest.attempt}/"


def _index_files(index: IndexRows) -> Iterator[tuple[NpyKind, NDArray[np.generic]]]:
    yield _INDEX_ROWS, index.rows
    yield _INDEX_EMBEDDINGS, index.embeddings
    yield _INDEX_DETAIL, index.detail
    yield _INDEX_SECONDS, index.seconds
