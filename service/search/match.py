"""Finds the films that a clip comes from, by the embeddings of its frames."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import structlog
from numpy.typing import NDArray

from film.quality import is_flat
from service.library.films import Film, Films
from service.library.latents import Latents
from service.library.verified_reads import DamagedError
from service.search.alignment import (
    Alignment,
    ClipFrames,
    FilmWindow,
    Place,
    align,
    judge,
    propose,
    similarities,
    windows,
)
from service.search.engine import Search
from service.storage.threads import StorageThreads

log = structlog.get_logger(__name__)

MIN_CONFIDENCE = 0.5
"""Matches with less confidence are not returned."""

_CANDIDATES = 20
"""Of each of the clip's frames."""
_STILL_SIMILARITY = 0.97
"""If all frames are this similar to the first, the clip is a still picture."""


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """The embeddings of a clip's frames, for one way of cropping its bars."""

    seconds: NDArray[np.float64]
    """From the clip's first picture, [N], increasing."""
    embeddings: NDArray[np.float32]
    """[N, 200]"""
    detail: NDArray[np.float32]
    """As `film.quality.frame_detail`, [N]."""
    duration: float
    """Seconds, of the clip."""

    def warning(self) -> str:
        """Why the clip may not have a reliable match, or empty."""
        flat = is_flat(self.detail)
        if flat.all():
            return "the clip is black or of one colour: nothing can be recognised in its pictures"
        seen = self.embeddings[~flat]
        if len(seen) < 2 or float((seen @ seen[0]).min()) > _STILL_SIMILARITY:
            return "the clip is a still picture, which may match in more than one place"
        if flat.mean() > 0.5:
            return "most of the clip is black or of one colour; only the rest could be compared"
        return ""

    def frames(self) -> ClipFrames:
        """Return the frames that can be compared."""
        seen = ~is_flat(self.detail)
        return ClipFrames(self.seconds[seen], self.embeddings[seen])


@dataclass(frozen=True, slots=True)
class ClipFound:
    """A passage of a film that a clip shows."""

    film: Film
    start: float
    """Seconds from the film's first frame; likewise the end."""
    end: float
    clip_start: float
    """Seconds from the clip's first picture; likewise the end."""
    clip_end: float
    confidence: float
    similarity: float


class ClipMatcher:
    """Matches clips with films; for one event loop."""

    def __init__(
        self, search: Search, films: Films, latents: Latents, threads: StorageThreads
    ) -> None:
        self._search = search
        self._films = films
        self._latents = latents
        self._threads = threads

    async def match(
        self,
        digest: str,
        variants: Sequence[EncodedClip],
        count: int,
        films: Collection[str] | None = None,
    ) -> list[ClipFound]:
        """Return at most `count` matches, highest confidence first; none for an unknown clip.

        Args:
            digest: of the model that made the embeddings.
            variants: the clip with its bars cropped and, if it has bars, uncropped, since the
                library's film may have them too. The better variant is used.
            count: how many matches.
            films: only films with these ids; None: all.
        """
        best: tuple[list[Alignment], EncodedClip] | None = None
        for clip in variants:
            judged = await self._aligned(digest, clip.frames(), films)
            if best is None or _surest(judged) > _surest(best[0]):
                best = judged, clip
        if best is None:
            return []
        judged, clip = best
        found: list[ClipFound] = []
        for alignment in judged:
            if alignment.confidence < MIN_CONFIDENCE or len(found) == count:
                break
            place = alignment.place
            film = await self._threads.run(self._films.find, place.film, place.film_uid)
            if film is not None:
                duration = await self._threads.run(self._duration, film, digest)
                if duration is not None:
                    found.append(_found(film, alignment, clip, duration))
        return found

    async def _aligned(
        self, digest: str, clip: ClipFrames, films: Collection[str] | None
    ) -> list[Alignment]:
        if not len(clip.seconds):
            return []
        candidates = await self._search.candidates(digest, clip.embeddings, _CANDIDATES, films)
        places = propose(clip, candidates)
        alignments = await asyncio.gather(
            *(self._threads.run(self._align, digest, clip, place) for place in places)
        )
        return judge([one for one in alignments if one is not None])

    def _align(self, digest: str, clip: ClipFrames, place: Place) -> Alignment | None:
        """Verify a place against the film's stored rows."""
        parts = []
        try:
            for own, start, stop in windows(clip, place):
                part = ClipFrames(clip.seconds[own], clip.embeddings[own])
                window = self._window(digest, place, start, stop)
                if window is None:
                    return None
                parts.append(similarities(part, place, window))
        except DamagedError as error:
            if self._films.exists(place.film, place.film_uid):
                log.error("a film cannot be matched", film=place.film, error=error.message)
            return None
        return align(place, np.concatenate(parts))

    def _window(self, digest: str, place: Place, start: float, stop: float) -> FilmWindow | None:
        manifest = self._latents.find(place.film, digest)
        if manifest is None or manifest.film_uid != place.film_uid:
            return None
        first, end = self._latents.rows_between(manifest, Fraction(start), Fraction(max(stop, 0.0)))
        if first >= end:
            return FilmWindow(np.empty(0), np.empty((0, 0), np.float32))
        pts = self._latents.pts(manifest, first, end) - manifest.origin_pts
        seconds = pts.astype(np.float64) * float(manifest.time_base)
        return FilmWindow(seconds, self._latents.embeddings(manifest, first, end))

    def _duration(self, film: Film, digest: str) -> float | None:
        manifest = self._latents.find(film.id, digest)
        return None if manifest is None else float(manifest.duration)


def _surest(judged: Sequence[Alignment]) -> float:
    return judged[0].confidence if judged else -1.0


def _found(film: Film, alignment: Alignment, clip: EncodedClip, duration: float) -> ClipFound:
    """Convert frames to times: each frame lasts until the clip's next compared one."""
    seen = np.flatnonzero(~is_flat(clip.detail))
    first, last = int(seen[alignment.first]), int(seen[alignment.last])
    ends = np.append(clip.seconds[1:], max(clip.duration, float(clip.seconds[-1])))
    offset = alignment.place.offset
    clip_start, clip_end = float(clip.seconds[first]), float(ends[last])
    start = min(max(0.0, offset + clip_start), duration)
    return ClipFound(
        film,
        start,
        max(start, min(duration, offset + clip_end)),
        clip_start,
        clip_end,
        alignment.confidence,
        min(1.0, alignment.similarity),
    )
