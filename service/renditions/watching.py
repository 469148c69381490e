"""Streams a rendition of a library film from the store, segment by segment.

Watchers and jobs communicate only through the store, so existing segments are streamed at once, and
so are another replica's segments. An unavailable store only delays the stream.
"""

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial

from film.facts import FilmFacts, SoundAction
from film.output import OutputSettings, output_size
from service.library.films import film_deleted
from service.library.latents import LatentsManifest, LatentsPart
from service.library.library import Library
from service.library.renditions import RenditionManifest, RenditionSegment
from service.library.verified_reads import DamagedError, exact_pieces
from service.pipeline.events import (
    Event,
    FilmOpened,
    LatentsMade,
    OutputChunk,
    Progress,
    StageSeconds,
    Summary,
)
from service.renditions.job import segments_discarded
from service.renditions.job_state import JobState
from service.renditions.registry import JobReference, Registry
from service.renditions.target import Target
from service.renditions.writes import Writes
from service.retry import read_with_retries

PROGRESS_SECONDS = 0.5
_LOOK_SECONDS = 1.0
"""How often a stream checks whether its film was deleted."""
_LATENT_ROWS = 256
"""Latents in one event."""


@dataclass(frozen=True, slots=True)
class _StreamSegment:
    """A segment to be streamed."""

    segment: RenditionSegment
    ends: Fraction
    """Seconds from the film's start to the segment's end."""
    latents: LatentsPart | None


class Watching:
    """One caller's stream of a rendition; ends when its events are read, or when cancelled."""

    def __init__(
        self,
        library: Library,
        target: Target,
        job_reference: JobReference | None,
        *,
        include_latents: bool,
    ) -> None:
        self._library = library
        self._run = Writes(library.threads).with_retries
        self._target = target
        self._participation = job_reference
        self._include_latents = include_latents
        self._frames = 0
        self._reused = 0
        self._bytes = 0
        self._position = Fraction(0)
        self._told_at = time.monotonic()
        self._looked_at = 0.0

    def cancel(self) -> None:
        """Stop the stream; may be called at any time."""
        if self._participation is not None:
            self._participation.leave()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events in order; then raise the ServiceError, if any."""
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    yield event
        except DamagedError:
            # Objects may be missing because the film was deleted, or others were faster.
            await self._require_film()
            if self._participation is not None:
                raise segments_discarded() from None
            raise
        finally:
            self.cancel()

    async def _events(self) -> AsyncGenerator[Event, None]:
        film, output = self._target.film, self._target.output
        state = await self._state()
        self._reused = state.manifest.frames if state.manifest is not None else state.frames
        await self._require_film()
        yield FilmOpened(_facts(film.facts, output), output_size(film.facts, output))
        place = 0
        while True:
            segment_ = _stream_segment(state, place)
            if segment_ is not None:
                async with aclosing(self._stream(state, place, segment_)) as events:
                    async for event in events:
                        yield event
                place += 1
            elif state.fault is not None:
                yield self._progress()
                raise state.fault
            elif state.manifest is not None:
                break
            else:
                await state.changed(PROGRESS_SECONDS)
                if (progress := self._due_progress()) is not None:
                    yield progress
        yield self._progress()
        await self._require_film()
        yield self._summary(state.manifest)

    async def _state(self) -> JobState:
        """Return the job's state; for a finished rendition it has all segments."""
        if self._participation is not None:
            await self._participation.job.looked.wait()
            return self._participation.job.state
        state = JobState()
        manifest = await self._run(
            self._library.renditions.find, self._target.film.id, self._target.rendition
        )
        if manifest is None:
            raise film_deleted(self._target.film.id)
        state.finish(manifest)
        return state

    async def _stream(
        self, state: JobState, place: int, segment_: _StreamSegment
    ) -> AsyncGenerator[Event, None]:
        """Yield a segment's latents and bytes, the header before the first."""
        segment = segment_.segment
        if self._include_latents:
            async with aclosing(self._latents(segment_)) as latents:
                async for made in latents:
                    yield made
        objects = [(segment.key, segment.size, f"segment {place + 1} of a rendition")]
        if not place:
            objects.insert(0, (*_init(state), "the header of a rendition"))
        for key, size, what in objects:
            await self._require_film()
            read = partial(self._read, key, size, what)
            async with aclosing(read_with_retries(self._library.threads.iterate, read)) as chunks:
                async for chunk in chunks:
                    self._bytes += len(chunk)
                    yield OutputChunk(chunk)
                    await self._look()
                    if (progress := self._due_progress()) is not None:
                        yield progress
        self._frames += segment.frames
        self._position = segment_.ends

    def _read(self, key: str, size: int, what: str, start: int) -> Iterator[bytes]:
        store, film = self._library.store, self._target.film.id
        return exact_pieces(store, key, start, size - start, film=film, what=what)

    async def _latents(self, segment_: _StreamSegment) -> AsyncGenerator[LatentsMade, None]:
        """Yield a segment's latents: the film's if they are complete, else the job's own."""
        film, latents = self._target.film, self._library.latents
        manifest = await self._run(latents.find, film.id, self._target.model.digest)
        first = self._frames
        if manifest is None:
            if segment_.latents is None:
                raise segments_discarded()
            manifest, first = _single_part(self._target, segment_.latents), 0
        end = first + segment_.segment.frames
        for start in range(first, end, _LATENT_ROWS):
            stop = min(end, start + _LATENT_ROWS)
            pts = await self._run(latents.pts, manifest, start, stop)
            values = await self._run(latents.latents, manifest, start, stop)
            await self._look()
            yield LatentsMade(pts, values)

    async def _look(self) -> None:
        if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            await self._require_film()

    async def _require_film(self) -> None:
        film = self._target.film
        await self._run(self._library.films.require, film.id, film.uid)
        self._looked_at = time.monotonic()

    def _due_progress(self) -> Progress | None:
        if time.monotonic() - self._told_at < PROGRESS_SECONDS:
            return None
        return self._progress()

    def _progress(self) -> Progress:
        self._told_at = time.monotonic()
        job = self._participation.job if self._participation is not None else None
        return Progress(
            bytes_received=0,
            frames_decoded=job.frames_decoded if job is not None else self._reused,
            frames_reconstructed=job.frames_reconstructed if job is not None else self._reused,
            frames_written=self._frames,
            position=self._position,
            frames_reused=min(self._frames, self._reused),
        )

    def _summary(self, manifest: RenditionManifest) -> Summary:
        film = self._target.film
        return Summary(
            frames=self._frames,
            duration=self._position,
            bytes_received=0,
            bytes_sent=self._bytes,
            film_digest=film.digest,
            stage_seconds=self._participation.job.seconds
            if self._participation is not None
            else StageSeconds(),
            warnings=manifest.warnings,
            film=film.id,
            rendition=self._target.rendition,
        )


async def watch(registry: Registry, target: Target, *, include_latents: bool) -> Watching:
    """Watch a rendition; joins or starts its job if it is not complete.

    Raises:
        OverloadedError: Too many films are in progress.
    """
    library = registry.library
    manifest = await library.threads.run(library.renditions.find, target.film.id, target.rendition)
    job_reference = registry.join(target) if manifest is None else None
    return Watching(library, target, job_reference, include_latents=include_latents)


def _facts(facts: FilmFacts, output: OutputSettings) -> FilmFacts:
    """Return a film's facts with the sound actions of this rendition."""
    if output.sound:
        return facts
    tracks = (replace(track, action=SoundAction.DROP) for track in facts.sound_tracks)
    return replace(facts, sound_tracks=tuple(tracks))


def _stream_segment(state: JobState, place: int) -> _StreamSegment | None:
    """Return the segment at an index, from 0; None if it does not exist (yet)."""
    if place < len(state.segments):
        record = state.segments[place]
        return _StreamSegment(record.segment, record.resume.position, record.latents)
    manifest = state.manifest
    if manifest is None or place >= len(manifest.segments):
        return None
    if (
        place
        and state.segments
        and manifest.segments[: len(state.segments)]
        != tuple(record.segment for record in state.segments)
    ):
        raise segments_discarded()
    segments = manifest.segments
    ends = manifest.duration
    if place + 1 < len(segments):
        ends = (segments[place + 1].first_pts - segments[0].first_pts) * manifest.time_base
    return _StreamSegment(segments[place], ends, None)


def _init(state: JobState) -> tuple[str, int]:
    if state.segments:
        init = state.segments[0].init
        return init.key, init.size
    if state.manifest is None:
        raise ValueError("nothing is known of the rendition's header yet")
    return state.manifest.init_key, state.manifest.init_size


def _single_part(target: Target, part: LatentsPart) -> LatentsManifest:
    """Return a manifest of a single part, to read it before the others exist."""
    return LatentsManifest(
        film=target.film.id,
        film_uid=target.film.uid,
        model=target.stored_model,
        time_base=target.film.facts.time_base,
        origin_pts=part.first_pts,
        end_pts=part.last_pts,
        rows=part.rows,
        parts=(part,),
        created=datetime.now(UTC),
    )
