"""MatchClip: finds the film that a clip comes from."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
from numpy.typing import NDArray
from refilm.v1 import latents_pb2 as pb

from film.clip_survey import ClipSurvey
from film.errors import FilmError
from film.letterbox import NO_BARS, Bars
from film.process.film_process import FilmProcess, FilmProcesses
from film.spool import Spool, SpoolRoom
from service.errors import InvalidFieldError
from service.film_errors import translated_process_errors
from service.inference import Inference, Models, ModelVersion
from service.limit import Limit
from service.pipeline.errors import spool_error
from service.pipeline.source import ArrivingSource
from service.pipeline.stats import Stats
from service.rpc import messages
from service.rpc.call import Context, current_call
from service.rpc.durations import duration
from service.rpc.film_latents import FilmLatents
from service.rpc.names import film_name
from service.rpc.requests import chunks_of, first_request
from service.search.engine import Search
from service.search.match import ClipFound, ClipMatcher, EncodedClip

MAX_MATCHES = 20

_WATCH_SECONDS = 0.5


class ClipCalls:
    """Handles MatchClip."""

    def __init__(
        self,
        models: Models,
        inference: Inference,
        search: Search,
        matcher: ClipMatcher,
        film_latents: FilmLatents,
        processes: FilmProcesses,
        spools: SpoolRoom,
        limit: Limit,
        *,
        clip_bytes: int,
        idle_seconds: float,
    ) -> None:
        self._models = models
        self._inference = inference
        self._search = search
        self._matcher = matcher
        self._film_latents = film_latents
        self._processes = processes
        self._spools = spools
        self._clip_bytes = clip_bytes
        self._idle_seconds = idle_seconds
        self._limit = limit

    async def MatchClip(
        self,
        requests: AsyncIterator[pb.MatchClipRequest],
        context: "Context[pb.MatchClipRequest, pb.MatchClipResponse]",
    ) -> pb.MatchClipResponse:
        """Find which film a clip comes from, and where in it."""
        first = await first_request(requests, "settings", "the clip's bytes", self._idle_seconds)
        settings = first.settings
        model = messages.resolve(self._models, settings.model, "settings.model")
        current_call().model = model
        count = _count(settings.max_matches)
        films = await self._film_latents.films(settings.films, "settings.films")
        with self._limit:
            survey, variants = await self._encoded(settings, model, chunks_of(requests, "settings"))
        found = await self._matcher.match(model.digest, variants, count, films)
        gone = await self._search.find_deleted([one.film for one in found])
        coverage = self._search.coverage(model.digest, films)
        current_call().frames = len(survey.chosen)
        return pb.MatchClipResponse(
            matches=[_match(one) for one in found if one.film.id not in gone],
            model=messages.model_identity(model),
            clip_duration=duration(survey.duration),
            frames_compared=len(variants[0].frames().seconds),
            query_warning=variants[0].warning(),
            bars=_bars(survey.bars),
            films_searched=coverage.searched,
            films_left_out=coverage.left_out,
        )

    async def _encoded(
        self, settings: pb.MatchClipSettings, model: ModelVersion, chunks: AsyncIterator[bytes]
    ) -> tuple[ClipSurvey, list[EncodedClip]]:
        """Receive the clip and encode some of its pictures; the clip is not stored."""
        try:
            spool = Spool(self._spools, self._clip_bytes)
        except FilmError as error:
            raise spool_error(error) from None
        stats = Stats(model)
        arriving = ArrivingSource(
            spool,
            chunks,
            stats,
            announced=settings.clip_size_bytes or None,
            idle_seconds=self._idle_seconds,
        )
        try:
            with translated_process_errors(arriving.fault):
                async with self._processes.film(arriving.bytes) as film:
                    survey = await self._surveyed(arriving, film)
                    if (fault := arriving.fault(None)) is not None:
                        raise fault
                    variants = [
                        await self._encode(film, model, survey, bars)
                        for bars in ([survey.bars, NO_BARS] if survey.bars else [NO_BARS])
                    ]
        finally:
            arriving.close()
        return survey, variants

    async def _surveyed(self, arriving: ArrivingSource, film: FilmProcess) -> ClipSurvey:
        """Survey the clip while it arrives; returns once all of it has."""
        receiving = asyncio.create_task(arriving.receive())
        surveying = asyncio.create_task(film.survey())
        try:
            waiting: set[asyncio.Task[object]] = {receiving, surveying}
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=_WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if receiving in done:
                    receiving.result()
                if surveying in done:
                    # An unreadable clip is rejected without waiting for the rest of it.
                    surveying.result()
                    arriving.wait_for_end()
                arriving.check_idle(film.waiting_since)
            return surveying.result()
        finally:
            surveying.cancel()
            receiving.cancel()
            await asyncio.wait({receiving, surveying})

    async def _encode(
        self, film: FilmProcess, model: ModelVersion, survey: ClipSurvey, bars: Bars
    ) -> EncodedClip:
        embeddings: list[NDArray[np.float32]] = []
        detail: list[NDArray[np.float32]] = []
        async with aclosing(film.clip(bars)) as batches:
            async for frames, to_see in batches:
                encoded = await self._inference.encode(model, frames)
                embeddings.append(encoded.embeddings)
                detail.append(to_see)
        return EncodedClip(
            survey.seconds,
            np.concatenate(embeddings),
            np.concatenate(detail),
            float(survey.duration),
        )


def _count(wanted: int) -> int:
    if wanted < 0:
        raise InvalidFieldError("settings.max_matches", f"is {wanted}; must not be negative")
    return min(wanted or 1, MAX_MATCHES)


def _match(found: ClipFound) -> pb.ClipMatch:
    return pb.ClipMatch(
        film=film_name(found.film.id),
        title=found.film.title,
        start_time=duration(found.start),
        end_time=duration(found.end),
        clip_start_time=duration(found.clip_start),
        clip_end_time=duration(found.clip_end),
        confidence=found.confidence,
        similarity=found.similarity,
    )


def _bars(bars: Bars) -> pb.CroppedBars:
    return pb.CroppedBars(left=bars.left, top=bars.top, right=bars.right, bottom=bars.bottom)
