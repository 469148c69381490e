"""Searches over the encodings of the library's films."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import closing
from typing import TYPE_CHECKING

from refilm import _question_wire as wire
from refilm._film_values import Film
from refilm._question_values import DuplicatePair, MatchResult, SearchHit, SearchResult
from refilm._source import FilmSource, Source
from refilm._times import Seconds, duration
from refilm._values import ModelIdentity
from refilm._wire import identity, selector
from refilm.aio._calls import Calls
from refilm.aio._platform import blocking
from refilm.v1 import latents_pb2 as pb

if TYPE_CHECKING:
    from refilm._question_wire import Query

_CHUNK_BYTES = 256 * 1024
_MOST_HITS_A_PAGE = 100


class QuestionCalls(Calls):
    """The part of the client that searches, matches and compares."""

    async def search_frames(
        self,
        query: Query,
        *,
        limit: int = 10,
        skip: int = 0,
        min_similarity: float = 0.0,
        films: Iterable[str | Film] = (),
        start: Seconds | None = None,
        end: Seconds | None = None,
        previews: bool = False,
        model: str | ModelIdentity = "",
        version: int = 0,
        timeout: float | None = None,
    ) -> SearchResult:
        """Searches the library for passages that look like a query, the most similar first.

        Args:
            query: A picture, as for `encode`; an `Encoding`, or the 200 numbers of a latent; or a
                moment of a film, (film, time).
            limit: The maximum number of hits, at least 1.
            skip: The number of hits to skip before the first.
            min_similarity: Only hits of at least this similarity, 0 to 1.
            films: Only these; empty means all.
            start: Only from this time in each film.
            end: Only up to this time in each film.
            previews: Whether each hit includes a picture.
            model: The model whose encodings are searched, as for `encode`.
            version: As for `encode`.
            timeout: Seconds for each page of 100 hits; None for the client's.

        Raises:
            InvalidRequestError: The service cannot read the picture or the latent.
            NotFoundError: The library has no such film, or the service no such model.
            PreconditionError: The query's latent is of another model.
            RefilmError: The call failed for another reason.
            TypeError: The query is none of these.
            ValueError: A setting is out of range.
            OSError: The picture's file cannot be read.
        """
        if limit < 1 or skip < 0:
            raise ValueError("limit counts hits from 1, skip from 0")
        request = wire.search_request(
            query,
            model=selector(model, version),
            min_similarity=min_similarity,
            films=wire.films(films),
            range=wire.time_range(start, end),
            include_previews=previews,
            skip=skip,
        )
        hits: list[SearchHit] = []
        while True:
            request.page_size = min(limit - len(hits), _MOST_HITS_A_PAGE)
            page = await self._transport.unary(self._latents.SearchFrames, request, timeout)
            hits.extend(wire.hit(message) for message in page.hits)
            request.page_token = page.next_page_token
            request.skip = 0
            if len(hits) >= limit or not page.next_page_token:
                return SearchResult(
                    hits=tuple(hits),
                    model=identity(page.model),
                    warning=page.query_warning,
                    films_searched=page.films_searched,
                    films_left_out=page.films_left_out,
                )

    async def match_clip(
        self,
        clip: FilmSource,
        *,
        limit: int = 1,
        films: Iterable[str | Film] = (),
        model: str | ModelIdentity = "",
        version: int = 0,
        timeout: float | None = None,
    ) -> MatchResult:
        """Finds which film of the library a clip comes from, and where in it.

        Args:
            clip: The clip's path, or a file object to read it from.
            limit: At most this many matches: 1 to 20.
            films: Only these; empty means all.
            model: The model whose encodings are matched, as for `encode`.
            version: As for `encode`.
            timeout: Seconds; None for the client's `stream_timeout`.

        Raises:
            DataLossError: The clip is truncated.
            InvalidRequestError: It is not a film.
            NotFoundError: The library has no such film, or the service no such model.
            RefilmError: The call failed for another reason.
            ValueError: The limit is out of range.
            OSError: The file cannot be read.
        """
        if not 1 <= limit <= 20:
            raise ValueError(f"limit counts matches, 1 to 20, not {limit}")
        with closing(Source(clip)) as source:
            settings = pb.MatchClipSettings(
                model=selector(model, version),
                max_matches=limit,
                films=wire.films(films),
                clip_size_bytes=source.size or 0,
            )

            async def requests() -> AsyncIterator[pb.MatchClipRequest]:
                yield pb.MatchClipRequest(settings=settings)
                while chunk := await blocking(source.read, _CHUNK_BYTES):
                    yield pb.MatchClipRequest(chunk=chunk)

            answer = await self._transport.upload(self._latents.MatchClip, requests(), timeout)
            return wire.match(answer)

    async def find_duplicates(
        self,
        *,
        films: Iterable[str | Film] = (),
        min_similarity: float = 0.9,
        min_duration: Seconds = 2.0,
        model: str | ModelIdentity = "",
        version: int = 0,
        timeout: float | None = None,
    ) -> AsyncGenerator[DuplicatePair]:
        """Yields pairs of passages with the same content, within and across films, longest first.

        Args:
            films: Only pairs with at least one passage in one of these; empty means all.
            min_similarity: Passages of at least this similarity, 0.5 to 1.
            min_duration: Passages of at least this duration.
            model: The model whose encodings are compared, as for `encode`.
            version: As for `encode`.
            timeout: Seconds for each page; None for the client's.

        Raises:
            NotFoundError: The library has no such film, or the service no such model.
            RefilmError: The call failed for another reason.
            ValueError: A setting is out of range.
        """
        if not 0.5 <= min_similarity <= 1:
            raise ValueError(f"min_similarity lies between 0.5 and 1, not at {min_similarity}")
        request = pb.FindDuplicatesRequest(
            model=selector(model, version),
            films=wire.films(films),
            min_similarity=min_similarity,
            min_duration=duration(min_duration),
        )
        while True:
            page = await self._transport.unary(self._latents.FindDuplicates, request, timeout)
            for message in page.pairs:
                yield wire.duplicates(message, identity(page.model))
            request.page_token = page.next_page_token
            if not request.page_token:
                return
