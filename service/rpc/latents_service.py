"""LatentsService: questions to the encodings of the library's films."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Protocol, TypeAlias, TypeVar

import grpc
from refilm.v1 import autoencoder_pb2, latents_pb2_grpc
from refilm.v1 import latents_pb2 as pb

from service.errors import InvalidFieldError
from service.inference import Inference, Models
from service.library.films import Film, Films
from service.library.latents import Latents, LatentsManifest
from service.library.latents_arrow import arrow_bytes
from service.library.latents_reader import time_out_of_range
from service.rpc.call import current_call
from service.rpc.film_latents import FilmLatents
from service.rpc.interpolate import Interpolation
from service.rpc.messages import seconds_of
from service.storage.threads import StorageThreads

ROWS_A_MESSAGE = 256

_NPY = (pb.LATENTS_FORMAT_UNSPECIFIED, pb.LATENTS_FORMAT_NPY)

Request = TypeVar("Request")
Response = TypeVar("Response")
Context: TypeAlias = "grpc.aio.ServicerContext[Request, Response]"


class Search(Protocol):
    """service.rpc.search_frames: the questions that an index answers."""

    async def search_frames(self, request: pb.SearchFramesRequest) -> pb.SearchFramesResponse:
        """Answer SearchFrames."""

    async def find_duplicates(self, request: pb.FindDuplicatesRequest) -> pb.FindDuplicatesResponse:
        """Answer FindDuplicates."""


class MatchClip(Protocol):
    """service.rpc.match_clip: where a clip comes from."""

    async def __call__(
        self,
        requests: AsyncIterator[pb.MatchClipRequest],
        context: "Context[pb.MatchClipRequest, pb.MatchClipResponse]",
    ) -> pb.MatchClipResponse:
        """Answer MatchClip."""


class LatentsService(latents_pb2_grpc.LatentsServiceServicer):
    """The servicer; it raises `service.errors`, of which the interceptor makes statuses."""

    def __init__(
        self,
        models: Models,
        inference: Inference,
        films: Films,
        latents: Latents,
        storage_threads: StorageThreads,
        frame_threads: ThreadPoolExecutor,
        *,
        search: Search | None = None,
        match_clip: MatchClip | None = None,
    ) -> None:
        self._latents = latents
        self._film_latents = FilmLatents(models, films, latents, storage_threads)
        self._interpolation = Interpolation(
            models, inference, self._film_latents, latents, frame_threads
        )
        self._search = search
        self._match_clip = match_clip

    async def ListLatents(
        self,
        request: pb.ListLatentsRequest,
        context: "Context[pb.ListLatentsRequest, pb.ListLatentsResponse]",
    ) -> AsyncIterator[pb.ListLatentsResponse]:
        """List a film's latents as fast as the caller takes them."""
        film = await self._film_latents.film(request.film)
        manifest = await self._film_latents.chosen(film, request.model)
        start, stop = await self._rows(film, manifest, request.range)
        messages = self._listed(
            manifest, start, stop, request.stride or 1, request.include_embeddings
        )
        async with aclosing(self._film_latents.watch.watched(film, messages)) as stream:
            async for message in stream:
                current_call().frames += len(message.pts)
                yield message

    async def ExportLatents(
        self,
        request: pb.ExportLatentsRequest,
        context: "Context[pb.ExportLatentsRequest, pb.ExportLatentsResponse]",
    ) -> AsyncIterator[pb.ExportLatentsResponse]:
        """Export a film's latents as one file."""
        if request.format not in pb.LatentsFormat.values():
            raise InvalidFieldError(
                "format", f"{request.format} is no LatentsFormat", reason="INVALID_LATENTS_FORMAT"
            )
        film = await self._film_latents.film(request.film)
        manifest = await self._film_latents.chosen(film, request.model)
        chunks = (
            self._latents.npy_bytes(manifest)
            if request.format in _NPY
            else arrow_bytes(self._latents, manifest)
        )
        async with aclosing(self._film_latents.watch.watched(film, chunks)) as stream:
            async for chunk in stream:
                yield pb.ExportLatentsResponse(chunk=chunk)
        current_call().frames = manifest.rows

    async def SearchFrames(
        self,
        request: pb.SearchFramesRequest,
        context: "Context[pb.SearchFramesRequest, pb.SearchFramesResponse]",
    ) -> pb.SearchFramesResponse:
        """Search the library for frames that look like the query."""
        if self._search is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this service does not search")
        return await self._search.search_frames(request)

    async def FindDuplicates(
        self,
        request: pb.FindDuplicatesRequest,
        context: "Context[pb.FindDuplicatesRequest, pb.FindDuplicatesResponse]",
    ) -> pb.FindDuplicatesResponse:
        """Find passages that appear more than once."""
        if self._search is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this service does not search")
        return await self._search.find_duplicates(request)

    async def MatchClip(
        self,
        request_iterator: AsyncIterator[pb.MatchClipRequest],
        context: "Context[pb.MatchClipRequest, pb.MatchClipResponse]",
    ) -> pb.MatchClipResponse:
        """Say which film a clip comes from."""
        if self._match_clip is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this service does not match clips")
        return await self._match_clip(request_iterator, context)

    async def Interpolate(
        self,
        request: pb.InterpolateRequest,
        context: "Context[pb.InterpolateRequest, pb.InterpolateResponse]",
    ) -> AsyncIterator[pb.InterpolateResponse]:
        """Show what lies between two latents."""
        async with aclosing(self._interpolation.responses(request)) as stream:
            async for response in stream:
                yield response

    async def _rows(
        self, film: Film, manifest: LatentsManifest, range: pb.TimeRange
    ) -> tuple[int, int]:
        """Return the first row and the one after the last that a request's range means."""
        first = last = None
        if range.HasField("from"):
            first = seconds_of(getattr(range, "from"), "range.from")
            if not 0 <= first <= manifest.duration:
                raise time_out_of_range(manifest, first)
        if range.HasField("to"):
            last = seconds_of(range.to, "range.to")
            if last < 0:
                raise time_out_of_range(manifest, last)
            if last < (first or 0):
                raise InvalidFieldError(
                    "range.to", "lies before range.from", reason="INVALID_TIME_RANGE"
                )
        return await self._film_latents.read(
            film, lambda: self._latents.rows_between(manifest, first, last)
        )

    def _listed(
        self, manifest: LatentsManifest, start: int, stop: int, stride: int, embeddings: bool
    ) -> Iterator[pb.ListLatentsResponse]:
        identity = autoencoder_pb2.ModelIdentity(
            name=manifest.model.name, version=manifest.model.version, digest=manifest.model.digest
        )
        time_base = autoencoder_pb2.Rational(
            numerator=manifest.time_base.numerator, denominator=manifest.time_base.denominator
        )
        chunks = self._latents.parts(manifest, start, stop, stride=stride, embeddings=embeddings)
        for chunk in chunks:
            for at in range(0, len(chunk.rows), ROWS_A_MESSAGE):
                rows = slice(at, at + ROWS_A_MESSAGE)
                wanted = None if chunk.embeddings is None else chunk.embeddings[rows]
                yield pb.ListLatentsResponse(
                    model=identity,
                    time_base=time_base,
                    pts=chunk.pts[rows].tolist(),
                    values=chunk.latents[rows].ravel().tolist(),
                    embeddings=None if wanted is None else wanted.ravel().tolist(),
                )
