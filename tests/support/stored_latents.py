"""Films of the library with latents chosen by the test, as a reconstruction leaves them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from film.facts import FilmFacts
from service.library.films import Film, Films
from service.library.latents import Latents, LatentsManifest, LatentsPart
from service.library.records import StoredModel
from service.storage.objects import ObjectStore


@dataclass(frozen=True)
class Rows:
    """All that is stored of a film's frames."""

    latents: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    pts: NDArray[np.int64]
    detail: NDArray[np.float32]
    time_base: Fraction
    end_pts: int

    @property
    def seconds(self) -> list[Fraction]:
        """Of each frame, from the first."""
        return [(pts - self.pts[0].item()) * self.time_base for pts in self.pts.tolist()]

    @property
    def duration(self) -> Fraction:
        """Seconds to the end of the last frame."""
        return (self.end_pts - self.pts[0].item()) * self.time_base


def model(digit: str, name: str = "pca", version: int = 1) -> StoredModel:
    """Return a model whose digest is 64 times the same digit."""
    return StoredModel(name, version, f"sha256:{digit * 64}", "pca")


def random_rows(
    count: int,
    seed: int = 0,
    *,
    gaps: Sequence[int] = (1001,),
    time_base: Fraction = Fraction(1, 24000),
    origin: int = 0,
) -> Rows:
    """Return random rows whose frames last `gaps` ticks in turn, the first at `origin`."""
    rng = np.random.default_rng(seed)
    lasting = np.resize(np.array(gaps, np.int64), count)
    ends = origin + np.cumsum(lasting)
    embeddings = rng.normal(size=(count, 200)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return Rows(
        rng.normal(size=(count, 200)).astype(np.float32),
        embeddings.astype(np.float16).astype(np.float32),
        ends - lasting,
        rng.random(count).astype(np.float32),
        time_base,
        int(ends[-1]),
    )


def new_film(film_id: str, time_base: Fraction = Fraction(1, 24000)) -> Film:
    """Return a film that is not stored yet."""
    facts = FilmFacts(
        container="mp4",
        video_codec="h264",
        width=640,
        height=360,
        sample_aspect_ratio=Fraction(1),
        rotation=0,
        average_frame_rate=Fraction(24),
        time_base=time_base,
        duration=None,
        estimated_frames=None,
        interlaced=False,
        transfer="bt709",
        tone_mapped=False,
        bit_depth=8,
        sound_tracks=(),
    )
    digest = "sha256:" + "0" * 64
    return Film(film_id, str(uuid.uuid4()), film_id.title(), 1, digest, datetime.now(UTC), facts)


def write_parts(
    latents: Latents,
    film: Film,
    made_by: StoredModel,
    rows: Rows,
    *,
    part_rows: Sequence[int] = (240,),
    attempt: str = "attempt-1",
) -> LatentsManifest:
    """Write all parts, each of the next of `part_rows` in turn; return the manifest to commit."""
    parts: list[LatentsPart] = []
    start = 0
    while start < len(rows.pts):
        size = part_rows[len(parts) % len(part_rows)]
        part = slice(start, start + size)
        parts.append(
            latents.write_part(
                film.id,
                made_by.digest,
                attempt,
                len(parts) + 1,
                latents=rows.latents[part],
                embeddings=rows.embeddings[part],
                pts=rows.pts[part],
                detail=rows.detail[part],
            )
        )
        start += size
    return LatentsManifest(
        film.id,
        film.uid,
        made_by,
        rows.time_base,
        int(rows.pts[0]),
        rows.end_pts,
        len(rows.pts),
        tuple(parts),
        datetime.now(UTC),
    )


def store_film(
    store: ObjectStore,
    film_id: str,
    made_by: StoredModel | None,
    rows: Rows,
    *,
    part_rows: Sequence[int] = (240,),
) -> Film:
    """Store a film (without a source) and its latents of one model, or none."""
    film = new_film(film_id, rows.time_base)
    Films(store).add(film)
    if made_by is not None:
        add_latents(store, film, made_by, rows, part_rows=part_rows)
    return film


def add_latents(
    store: ObjectStore,
    film: Film,
    made_by: StoredModel,
    rows: Rows,
    *,
    part_rows: Sequence[int] = (240,),
) -> LatentsManifest:
    """Store a film's latents of one more model."""
    latents = Latents(store)
    return latents.commit(write_parts(latents, film, made_by, rows, part_rows=part_rows))
