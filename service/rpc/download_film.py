"""Downloads: a film's source, a rendition, latents; by byte range, or by presigned URLs."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from refilm.v1 import library_pb2 as pb

from service import metrics
from service.errors import ClientSideError, InvalidFieldError, NotFoundError, Resource
from service.library import layout
from service.library.films import Film
from service.library.latents import Latents, LatentsManifest
from service.library.library import Library
from service.library.renditions import RenditionManifest, Renditions
from service.library.upload_records import slug
from service.library.verified_reads import exact_pieces
from service.rpc import names
from service.rpc.call import Context
from service.rpc.durations import seconds_of
from service.rpc.film_watch import FilmWatch
from service.storage.objects import PresigningUnsupportedError

DEFAULT_TIME_TO_LIVE: Final = timedelta(hours=1)
MAX_TIME_TO_LIVE: Final = timedelta(days=7)

_MEDIA_TYPES = {
    "mp4": ("video/mp4", ".mp4"),
    "mov": ("video/quicktime", ".mov"),
    "matroska": ("video/x-matroska", ".mkv"),
    "webm": ("video/webm", ".webm"),
    "mpegts": ("video/mp2t", ".ts"),
    "mpeg": ("video/mpeg", ".mpg"),
    "avi": ("video/x-msvideo", ".avi"),
    "asf": ("video/x-ms-asf", ".wmv"),
    "flv": ("video/x-flv", ".flv"),
    "ogg": ("video/ogg", ".ogv"),
}
_OTHER_MEDIA = ("application/octet-stream", "")


class OutOfRangeError(ClientSideError):
    """The range begins beyond the end."""

    code = grpc.StatusCode.OUT_OF_RANGE
    reason = "READ_OFFSET_OUT_OF_RANGE"


class PresigningError(ClientSideError):
    """The library's store does not support presigned URLs."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "PRESIGNING_UNSUPPORTED"

    def __init__(self) -> None:
        super().__init__(
            "the library is in a folder, which has no URLs: download through the service"
        )


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Something that can be downloaded."""

    film: Film
    content: RenditionManifest | LatentsManifest | None
    """None for the film's source."""
    size: int
    media_type: str
    file_name: str


class DownloadCalls:
    """Handlers for downloads."""

    def __init__(self, library: Library) -> None:
        self._store = library.store
        self._films = library.films
        self._renditions = library.renditions
        self._latents = library.latents
        self._threads = library.threads
        self._watch = FilmWatch(library.films, library.threads)

    async def DownloadFilm(
        self,
        request: pb.DownloadFilmRequest,
        context: "Context[pb.DownloadFilmRequest, pb.DownloadFilmResponse]",
    ) -> AsyncIterator[pb.DownloadFilmResponse]:
        """Download a source, a rendition or latents, as fast as the caller reads."""
        wanted = await self._threads.run(self._find, request.name)
        start = request.read_offset_bytes
        if start > wanted.size:
            raise OutOfRangeError(
                f"read_offset_bytes is {start}, beyond the end at {wanted.size}",
                metadata={"size_bytes": str(wanted.size)},
            )
        yield pb.DownloadFilmResponse(
            facts=pb.DownloadFacts(
                size_bytes=wanted.size, media_type=wanted.media_type, file_name=wanted.file_name
            )
        )
        size = min(request.read_limit_bytes or wanted.size, wanted.size - start)
        pieces = self._pieces(wanted, start, size)
        async with aclosing(self._watch.watched(wanted.film, pieces)) as stream:
            async for piece in stream:
                metrics.DOWNLOAD_BYTES.inc(len(piece))
                yield pb.DownloadFilmResponse(chunk=piece)

    async def CreateDownloadUrls(
        self,
        request: pb.CreateDownloadUrlsRequest,
        context: "Context[pb.CreateDownloadUrlsRequest, pb.CreateDownloadUrlsResponse]",
    ) -> pb.CreateDownloadUrlsResponse:
        """Create presigned URLs for the store; raises PresigningError."""
        valid = time_to_live(request.time_to_live if request.HasField("time_to_live") else None)
        wanted = await self._threads.run(self._find, request.name)
        response = pb.CreateDownloadUrlsResponse()
        response.expire_time.FromDatetime(datetime.now(UTC) + valid)
        try:
            urls = await self._threads.run(self._presign, wanted, valid)
        except PresigningUnsupportedError:
            raise PresigningError from None
        response.urls.extend(urls)
        await self._watch.require(wanted.film)
        return response

    def _find(self, name: str) -> _Bytes:
        parsed = names.parse_download_name(name, "name")
        match parsed:
            case names.RenditionName():
                film = self._films.get(parsed.film)
                rendition = find_rendition(self._renditions, film, parsed.rendition)
                size = self._renditions.size(rendition)
                return _Bytes(film, rendition, size, "video/mp4", f"{_stem(film)}.refilm.mp4")
            case names.LatentsName():
                film = self._films.get(parsed.film)
                latents = find_latents(self._latents, film, parsed.digest)
                size = self._latents.npy_size(latents)
                return _Bytes(film, latents, size, "application/x-npy", f"{_stem(film)}.npy")
            case film_id:
                film = self._films.get(film_id)
                media_type, ending = _MEDIA_TYPES.get(film.facts.container, _OTHER_MEDIA)
                return _Bytes(film, None, film.size, media_type, _stem(film) + ending)

    def _pieces(self, wanted: _Bytes, start: int, size: int) -> Iterator[bytes]:
        if not size:
            return iter(())
        match wanted.content:
            case RenditionManifest():
                return self._renditions.bytes(wanted.content, start, size)
            case LatentsManifest():
                return self._latents.npy_bytes(wanted.content, start, size)
            case None:
                key = layout.film_source(wanted.film.id)
                return exact_pieces(
                    self._store, key, start, size, film=wanted.film.id, what="its source"
                )

    def _presign(self, wanted: _Bytes, valid: timedelta) -> list[str]:
        match wanted.content:
            case RenditionManifest():
                keys = [
                    wanted.content.init_key,
                    *(segment.key for segment in wanted.content.segments),
                ]
            case LatentsManifest():
                keys = [part.key for part in wanted.content.parts]
            case None:
                source = layout.film_source(wanted.film.id)
                return [self._store.presigned_get(source, valid, wanted.file_name)]
        stem = _stem(wanted.film)
        return [
            self._store.presigned_get(key, valid, f"{stem}-{key.rsplit('/', 1)[1]}") for key in keys
        ]


def time_to_live(duration: Duration | None) -> timedelta:
    """Return how long a URL stays valid; raises InvalidFieldError."""
    if duration is None:
        return DEFAULT_TIME_TO_LIVE
    seconds = seconds_of(duration, "time_to_live")
    if not 1 <= seconds <= Fraction(MAX_TIME_TO_LIVE.total_seconds()):
        raise InvalidFieldError(
            "time_to_live",
            f"is {float(seconds):g} s; must be from 1 s to 7 days",
            reason="INVALID_TIME_TO_LIVE",
        )
    return timedelta(seconds=int(seconds))


def find_rendition(renditions: Renditions, film: Film, rendition: str) -> RenditionManifest:
    """Return a rendition of a film; raises NotFoundError. Blocks."""
    found = renditions.find(film.id, rendition)
    if found is None or found.film_uid != film.uid:
        raise _not_found("rendition", names.rendition_name(film.id, rendition))
    return found


def find_latents(latents: Latents, film: Film, digest: str) -> LatentsManifest:
    """Return a film's latents for one model; raises NotFoundError. Blocks."""
    found = latents.find(film.id, digest)
    if found is None or found.film_uid != film.uid:
        raise _not_found("latents", names.latents_name(film.id, digest))
    return found


def _stem(film: Film) -> str:
    return slug(film.title) or film.id


def _not_found(kind: str, name: str) -> NotFoundError:
    return NotFoundError(
        f"there is no {name}",
        reason=f"{kind.upper()}_NOT_FOUND",
        resource=Resource(kind, name),
    )
