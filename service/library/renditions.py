"""A film's renditions in the bucket: segments committed by a manifest, read as one file."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from film.output import OutputSettings, settings_to_json
from service.library import layout
from service.library.films import film_deleted
from service.library.records import (
    Key,
    Moment,
    RecordFormat,
    StoredModel,
    StoredSettings,
    UnreadableRecordError,
)
from service.library.verified_reads import DamagedError, checked, exact_pieces
from service.storage.objects import ObjectNotFoundError, ObjectStore, delete_below

_MANIFESTS_KEPT = 32


@dataclass(frozen=True, slots=True)
class RenditionSegment:
    """Consecutive pictures with their sound: one or more fragments of the MP4."""

    key: Key
    """Key of its bytes, "…/<attempt>/NNNNNN.m4s"."""
    size: int
    frames: int
    first_pts: int
    digest: str
    """SHA-256, 64 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class RenditionManifest:
    """The manifest that commits a rendition."""

    film: str
    """The film's id."""
    film_uid: str
    rendition: str
    """Its id: `rendition_id`."""
    model: StoredModel
    settings: StoredSettings
    time_base: Fraction
    """Seconds: the unit of all pts."""
    frames: int
    duration: Fraction
    """Seconds."""
    warnings: tuple[str, ...]
    """What was repaired or left out, one sentence each."""
    init_key: Key
    init_size: int
    segments: tuple[RenditionSegment, ...]
    """In order."""
    created: Moment

    @property
    def attempts(self) -> frozenset[str]:
        """All attempts with files in it: a resumed job keeps segments finished earlier."""
        keys = (self.init_key, *(segment.key for segment in self.segments))
        return frozenset(map(layout.attempt_of, keys))

    def encode(self) -> bytes:
        """Return it in its stored form; raises ValueError if a segment is not of this rendition."""
        return _FORMAT.encode(self, folder=layout.rendition_folder(self.film, self.rendition))

    @classmethod
    def decode(cls, data: bytes, film: str, rendition: str) -> "RenditionManifest":
        """Parse the manifest stored for a film's rendition; raises DamagedError."""
        folder = layout.rendition_folder(film, rendition)
        try:
            return _FORMAT.decode(data, folder=folder, film=film, rendition=rendition)
        except UnreadableRecordError as error:
            raise DamagedError(film, f"the list of a rendition {error}") from None


_FORMAT = RecordFormat(RenditionManifest)


class Renditions:
    """The renditions of all films. Blocking and thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._manifest = lru_cache(_MANIFESTS_KEPT)(self._read_manifest)

    def commit(self, manifest: RenditionManifest) -> RenditionManifest:
        """Commit an attempt as the rendition unless another was faster; return the winner.

        A loser's attempt is removed. Raises NotFoundError if the film was deleted meanwhile, or
        DamagedError.
        """
        self._store.create(_manifest_key(manifest.film, manifest.rendition), manifest.encode())
        winner = self.find(manifest.film, manifest.rendition)
        if winner is None:
            raise film_deleted(manifest.film)
        return winner

    def drop_attempt(self, film: str, rendition: str, attempt: str) -> None:
        """Remove an attempt's objects unless it was committed."""
        manifest = self.find(film, rendition)
        if manifest is not None and attempt in manifest.attempts:
            return
        folder = f"{layout.rendition_folder(film, rendition)}{attempt}/"
        delete_below(self._store, folder)

    def find(self, film: str, rendition: str) -> RenditionManifest | None:
        """Return a rendition by its id, or None if it is not finished; raises DamagedError."""
        try:
            return self._manifest(film, rendition)
        except ObjectNotFoundError:
            return None

    def list(self, film: str) -> Iterator[RenditionManifest]:
        """Yield a film's finished renditions, by id."""
        for name in self._store.folders(f"{layout.film_folder(film)}renditions/"):
            manifest = self.find(film, name)
            if manifest is not None:
                yield manifest

    def size(self, manifest: RenditionManifest) -> int:
        """Return the size of the whole MP4 in bytes."""
        return manifest.init_size + sum(segment.size for segment in manifest.segments)

    def bytes(
        self, manifest: RenditionManifest, start: int = 0, size: int | None = None
    ) -> Iterator[bytes]:
        """Yield the MP4's bytes from `start` on, at most `size`; raises DamagedError.

        Header and segments concatenated, at most 1 MiB at a time.
        """
        stop = self.size(manifest) if size is None else min(self.size(manifest), start + size)
        at = 0
        for key, length, digest, what in _objects(manifest):
            low, high = max(start, at), min(stop, at + length)
            if low < high:
                pieces = exact_pieces(
                    self._store, key, low - at, high - low, film=manifest.film, what=what
                )
                if digest and high - low == length:
                    pieces = checked(pieces, digest, film=manifest.film, what=what)
                yield from pieces
            at += length

    def _read_manifest(self, film: str, rendition: str) -> RenditionManifest:
        data = self._store.get(_manifest_key(film, rendition))
        return RenditionManifest.decode(data, film, rendition)


def rendition_id(model_digest: str, settings: OutputSettings) -> str:
    """Return a rendition's id: the model's digest and 16 digits of the settings' digest."""
    text = json.dumps(settings_to_json(settings), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{layout.hexadecimal(model_digest)}-{digest}"


def _objects(manifest: RenditionManifest) -> Iterator[tuple[str, int, str, str]]:
    """Yield key, size, digest (empty: not known) and name of each object in the MP4."""
    yield manifest.init_key, manifest.init_size, "", "the header of a rendition"
    for number, segment in enumerate(manifest.segments, start=1):
        yield segment.key, segment.size, segment.digest, f"segment {number} of a rendition"


def _manifest_key(film: str, rendition: str) -> str:
    return f"{layout.rendition_folder(film, rendition)}manifest.json"
