"""ListLatents and ExportLatents: a film's stored latents."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

from refilm.v1 import autoencoder_pb2
from refilm.v1 import latents_pb2 as pb

from service.errors import InvalidFieldError
from service.library.films import Film
from service.library.latents import LatentsManifest
from service.library.latents_arrow import arrow_bytes
from service.library.latents_reader import time_out_of_range
from service.library.library import Library
from service.rpc import messages
from service.rpc.call import Context, current_call
from service.rpc.durations import seconds_of
from service.rpc.film_latents import FilmLatents

ROWS_A_MESSAGE = 256

_NPY = (pb.LATENTS_FORMAT_UNSPECIFIED, pb.LATENTS_FORMAT_NPY)


class LatentsCalls:
    """Handlers for reading latents."""

    def __init__(self, film_latents: FilmLatents, library: Library) -> None:
        self._film_latents = film_latents
        self._latents = library.latents

    async def ListLatents(
        self,
        request: pb.ListLatentsRequest,
        context: "Context[pb.ListLatentsRequest, pb.ListLatentsResponse]",
    ) -> AsyncIterator[pb.ListLatentsResponse]:
        """List a film's latents as fast as the caller reads."""
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

    async def _rows(
        self, film: Film, manifest: LatentsManifest, range: pb.TimeRange
    ) -> tuple[int, int]:
        """Return the first row, and the one after the last, of a request's range."""
        first = last = None
        if range.HasField("start_time"):
            first = seconds_of(range.start_time, "range.start_time")
            if not 0 <= first <= manifest.duration:
                raise time_out_of_range(manifest, first)
        if range.HasField("end_time"):
            last = seconds_of(range.end_time, "range.end_time")
            if last < 0:
                raise time_out_of_range(manifest, last)
            if last < (first or 0):
                raise InvalidFieldError(
                    "range.end_time", "lies before range.start_time", reason="INVALID_TIME_RANGE"
                )
        return await self._film_latents.read(
            film, lambda: self._latents.rows_between(manifest, first, last)
        )

    def _listed(
        self, manifest: LatentsManifest, start: int, stop: int, stride: int, embeddings: bool
    ) -> Iterator[pb.ListLatentsResponse]:
        identity = messages.model_identity(manifest.model)
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
                    latents=[messages.latent_message(row) for row in chunk.latents[rows]],
                    embeddings=None
                    if wanted is None
                    else [messages.embedding_message(row) for row in wanted],
                )
