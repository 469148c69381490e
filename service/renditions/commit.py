"""Commits a film's latents and a rendition once all segments exist."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from service.library import layout
from service.library.latents import LatentsManifest, LatentsPart
from service.library.library import Library
from service.library.renditions import RenditionManifest
from service.library.segment_records import SegmentRecord
from service.renditions.target import Target
from service.renditions.writes import Writes


async def commit(
    library: Library,
    writes: Writes,
    target: Target,
    chain: Sequence[SegmentRecord],
    require_film: Callable[[], Awaitable[None]],
) -> RenditionManifest:
    """Write both manifests unless they exist; return the rendition's.

    If another attempt was faster, this one's objects are removed. `require_film` raises if the film
    is gone, and is called before each manifest.
    """
    film, rendition = target.film, target.rendition
    await require_film()
    latents = await writes.with_retries(library.latents.find, film.id, target.model.digest)
    parts = [record.latents for record in chain if record.latents is not None]
    if latents is None:
        latents = await writes.with_retries(
            library.latents.commit, _latents_manifest(target, chain, tuple(parts))
        )
    for attempt in {layout.attempt_of(part.key) for part in parts} - latents.attempts:
        await writes.with_retries(
            library.latents.drop_attempt, film.id, target.model.digest, attempt
        )
    await require_film()
    manifest = await writes.with_retries(
        library.renditions.commit, _rendition_manifest(target, chain)
    )
    for attempt in {record.attempt for record in chain} - manifest.attempts:
        await writes.with_retries(library.renditions.drop_attempt, film.id, rendition, attempt)
    return manifest


def _latents_manifest(
    target: Target, chain: Sequence[SegmentRecord], parts: tuple[LatentsPart, ...]
) -> LatentsManifest:
    film, end = target.film, chain[-1].resume
    time_base = film.facts.time_base
    origin = chain[0].segment.first_pts
    return LatentsManifest(
        film=film.id,
        film_uid=film.uid,
        model=target.stored_model,
        time_base=time_base,
        origin_pts=origin,
        end_pts=origin + round(end.position / time_base),
        rows=end.frames,
        parts=parts,
        created=datetime.now(UTC),
    )


def _rendition_manifest(target: Target, chain: Sequence[SegmentRecord]) -> RenditionManifest:
    film, end = target.film, chain[-1].resume
    return RenditionManifest(
        film=film.id,
        film_uid=film.uid,
        rendition=target.rendition,
        model=target.stored_model,
        settings=target.output,
        time_base=film.facts.time_base,
        frames=end.frames,
        duration=end.position,
        warnings=end.warnings,
        init_key=chain[0].init.key,
        init_size=chain[0].init.size,
        segments=tuple(record.segment for record in chain),
        created=datetime.now(UTC),
    )
