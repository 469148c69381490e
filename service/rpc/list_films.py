"""The library's films: get one, list them page by page, delete one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import TypeAdapter
from refilm.v1 import library_pb2 as pb

from service.library.films import Film
from service.library.latents import LatentsManifest
from service.library.library import Library
from service.library.renditions import RenditionManifest
from service.library.verified_reads import DamagedError
from service.rpc import messages, names
from service.rpc.call import Context
from service.rpc.durations import duration
from service.rpc.filters import Filter
from service.rpc.pages import FilmId, PageTokens, page_size
from service.rpc.reconstruction_messages import facts_message, settings_message
from service.rpc.requests import check_request_id

log = structlog.get_logger(__name__)

ONLY_CALLER: Final = "local"
"""The only caller: this service does not distinguish callers yet."""

_AT_ONCE: Final = 16
"""Number of film records read concurrently."""
_LOOKED_AT: Final = 2000
"""Maximum number of films read for one page, even if few of them match the filter."""

_TOKENS: Final = PageTokens("films", TypeAdapter(FilmId))


class FilmCalls:
    """Handlers for existing films."""

    def __init__(self, library: Library) -> None:
        self._films = library.films
        self._renditions = library.renditions
        self._latents = library.latents
        self._deletion = library.deletion
        self._threads = library.threads

    async def GetFilm(
        self, request: pb.GetFilmRequest, context: "Context[pb.GetFilmRequest, pb.GetFilmResponse]"
    ) -> pb.GetFilmResponse:
        """Get a film with its renditions and latents."""
        film_id = names.parse_film_name(request.name, "name")
        return pb.GetFilmResponse(film=await self._threads.run(self._whole, film_id))

    async def DeleteFilm(
        self,
        request: pb.DeleteFilmRequest,
        context: "Context[pb.DeleteFilmRequest, pb.DeleteFilmResponse]",
    ) -> pb.DeleteFilmResponse:
        """Delete a film. Continues if the caller disconnects."""
        film_id = names.parse_film_name(request.name, "name")
        check_request_id(request.request_id)
        await self._threads.run(self._deletion.delete, film_id, request.request_id)
        return pb.DeleteFilmResponse()

    def _whole(self, film_id: str) -> pb.Film:
        film = self._films.get(film_id)
        message = film_message(film)
        message.renditions.extend(
            rendition_message(rendition)
            for rendition in self._renditions.list(film_id)
            if rendition.film_uid == film.uid
        )
        message.latents.extend(
            latents_message(latents)
            for latents in self._latents.list(film_id)
            if latents.film_uid == film.uid
        )
        # A film that is deleted by now is not returned, whatever was read above.
        self._films.get(film_id)
        return message

    async def ListFilms(
        self,
        request: pb.ListFilmsRequest,
        context: "Context[pb.ListFilmsRequest, pb.ListFilmsResponse]",
    ) -> pb.ListFilmsResponse:
        """List films."""
        wanted = Filter(request.filter)
        size = page_size(request.page_size)
        after = _TOKENS.after(request.page_token, request.filter) or ""
        response = pb.ListFilmsResponse()
        looked_at = 0
        async with aclosing(self._found(after)) as found:
            async for film_id, film in found:
                if len(response.films) == size or looked_at == _LOOKED_AT:
                    response.next_page_token = _TOKENS.token(after, request.filter)
                    break
                after = film_id
                looked_at += 1
                if film is not None and wanted.matches(film):
                    response.films.append(film_message(film))
        return response

    async def _found(self, after: str) -> AsyncGenerator[tuple[str, Film | None], None]:
        """Yield the ids after `after` with their films, prefetching a few."""
        ahead: list[tuple[str, asyncio.Task[Film | None]]] = []
        try:
            async with aclosing(self._threads.iterate(self._films.ids(after=after))) as ids:
                async for film_id in ids:
                    ahead.append((film_id, asyncio.create_task(self._find(film_id))))
                    if len(ahead) >= _AT_ONCE:
                        first, task = ahead.pop(0)
                        yield first, await task
                while ahead:
                    first, task = ahead.pop(0)
                    yield first, await task
        finally:
            for _, task in ahead:
                task.cancel()
            await asyncio.gather(*(task for _, task in ahead), return_exceptions=True)

    async def _find(self, film_id: str) -> Film | None:
        try:
            return await self._threads.run(self._films.find, film_id)
        except DamagedError as error:
            log.warning("a film is left out of a list", film=film_id, why=error.message)
            return None


def film_message(film: Film) -> pb.Film:
    """Return a film as a message, without renditions and latents."""
    created = Timestamp()
    created.FromDatetime(film.created)
    return pb.Film(
        name=names.film_name(film.id),
        uid=film.uid,
        title=film.title,
        size_bytes=film.size,
        digest=film.digest,
        create_time=created,
        facts=facts_message(film.facts),
        owner=ONLY_CALLER,
        visibility=pb.Film.VISIBILITY_EVERYONE,
    )


def rendition_message(rendition: RenditionManifest) -> pb.Rendition:
    """Return a rendition as a message."""
    created = Timestamp()
    created.FromDatetime(rendition.created)
    return pb.Rendition(
        name=names.rendition_name(rendition.film, rendition.rendition),
        model=messages.model_identity(rendition.model),
        settings=settings_message(rendition.settings),
        size_bytes=rendition.init_size + sum(segment.size for segment in rendition.segments),
        frames=rendition.frames,
        duration=duration(rendition.duration),
        create_time=created,
    )


def latents_message(latents: LatentsManifest) -> pb.StoredLatents:
    """Return a film's latents for one model as a message."""
    created = Timestamp()
    created.FromDatetime(latents.created)
    return pb.StoredLatents(
        name=names.latents_name(latents.film, latents.model.digest),
        model=messages.model_identity(latents.model),
        frames=latents.rows,
        create_time=created,
    )
