"""LibraryService: films kept in a store, and work on them."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import NoReturn, Protocol, TypeAlias, TypeVar

import grpc
from refilm.v1 import library_pb2 as pb
from refilm.v1 import library_pb2_grpc as pb_grpc

from service.errors import InvalidFieldError
from service.library.deletion import Deletion
from service.rpc import names
from service.rpc.download_film import Downloads
from service.rpc.list_films import FilmLists
from service.rpc.upload_film import UploadCalls
from service.storage.threads import StorageThreads

MAX_REQUEST_ID = 128

Request = TypeVar("Request")
Response = TypeVar("Response")
Context: TypeAlias = "grpc.aio.ServicerContext[Request, Response]"


class Reconstructions(Protocol):
    """service.rpc.reconstructions: work on films that outlives calls."""

    async def start(self, request: pb.StartReconstructionRequest) -> pb.StartReconstructionResponse:
        """Answer StartReconstruction."""

    async def get(self, request: pb.GetReconstructionRequest) -> pb.GetReconstructionResponse:
        """Answer GetReconstruction."""

    async def cancel(
        self, request: pb.CancelReconstructionRequest
    ) -> pb.CancelReconstructionResponse:
        """Answer CancelReconstruction."""

    async def list(self, request: pb.ListReconstructionsRequest) -> pb.ListReconstructionsResponse:
        """Answer ListReconstructions."""


class LibraryService(pb_grpc.LibraryServiceServicer):
    """The servicer; it raises `service.errors`, of which the interceptor makes statuses."""

    def __init__(
        self,
        uploads: UploadCalls,
        films: FilmLists,
        downloads: Downloads,
        deletion: Deletion,
        threads: StorageThreads,
        *,
        reconstructions: Reconstructions | None = None,
    ) -> None:
        self._uploads = uploads
        self._films = films
        self._downloads = downloads
        self._deletion = deletion
        self._threads = threads
        self._reconstructions = reconstructions

    async def UploadFilm(
        self,
        request_iterator: AsyncIterator[pb.UploadFilmRequest],
        context: "Context[pb.UploadFilmRequest, pb.UploadFilmResponse]",
    ) -> pb.UploadFilmResponse:
        """Take a film in as it comes."""
        return await self._uploads.upload(request_iterator, context)

    async def GetUpload(
        self,
        request: pb.GetUploadRequest,
        context: "Context[pb.GetUploadRequest, pb.GetUploadResponse]",
    ) -> pb.GetUploadResponse:
        """Say how far an upload is."""
        return await self._uploads.get(request)

    async def CancelUpload(
        self,
        request: pb.CancelUploadRequest,
        context: "Context[pb.CancelUploadRequest, pb.CancelUploadResponse]",
    ) -> pb.CancelUploadResponse:
        """Give an upload up."""
        return await self._uploads.cancel(request)

    async def CreateUploadUrl(
        self,
        request: pb.CreateUploadUrlRequest,
        context: "Context[pb.CreateUploadUrlRequest, pb.CreateUploadUrlResponse]",
    ) -> pb.CreateUploadUrlResponse:
        """Begin an upload that goes to the store directly."""
        return await self._uploads.create_url(request)

    async def CompleteUpload(
        self,
        request: pb.CompleteUploadRequest,
        context: "Context[pb.CompleteUploadRequest, pb.CompleteUploadResponse]",
    ) -> pb.CompleteUploadResponse:
        """Make a film of what was put to the store."""
        return await self._uploads.complete(request)

    async def ListFilms(
        self,
        request: pb.ListFilmsRequest,
        context: "Context[pb.ListFilmsRequest, pb.ListFilmsResponse]",
    ) -> pb.ListFilmsResponse:
        """List films."""
        return await self._films.page(request)

    async def GetFilm(
        self,
        request: pb.GetFilmRequest,
        context: "Context[pb.GetFilmRequest, pb.GetFilmResponse]",
    ) -> pb.GetFilmResponse:
        """Get one film."""
        return pb.GetFilmResponse(film=await self._films.get(request.name))

    async def DownloadFilm(
        self,
        request: pb.DownloadFilmRequest,
        context: "Context[pb.DownloadFilmRequest, pb.DownloadFilmResponse]",
    ) -> AsyncIterator[pb.DownloadFilmResponse]:
        """Download a source, a rendition or latents, as fast as the caller takes it."""
        async with aclosing(self._downloads.responses(request)) as responses:
            async for response in responses:
                yield response

    async def CreateDownloadUrls(
        self,
        request: pb.CreateDownloadUrlsRequest,
        context: "Context[pb.CreateDownloadUrlsRequest, pb.CreateDownloadUrlsResponse]",
    ) -> pb.CreateDownloadUrlsResponse:
        """Sign URLs at which the store serves the bytes."""
        return await self._downloads.urls(request)

    async def DeleteFilm(
        self,
        request: pb.DeleteFilmRequest,
        context: "Context[pb.DeleteFilmRequest, pb.DeleteFilmResponse]",
    ) -> pb.DeleteFilmResponse:
        """Delete a film. A caller who leaves does not stop it."""
        film_id = names.parse_film_name(request.name, "name")
        if len(request.request_id) > MAX_REQUEST_ID:
            raise InvalidFieldError(
                "request_id",
                f"has {len(request.request_id)} characters; must have at most {MAX_REQUEST_ID}",
                reason="INVALID_REQUEST_ID",
            )
        await self._threads.run(self._deletion.delete, film_id, request.request_id)
        return pb.DeleteFilmResponse()

    async def StartReconstruction(
        self,
        request: pb.StartReconstructionRequest,
        context: "Context[pb.StartReconstructionRequest, pb.StartReconstructionResponse]",
    ) -> pb.StartReconstructionResponse:
        """Start work that outlives the call."""
        if self._reconstructions is None:
            await _unimplemented(context)
        return await self._reconstructions.start(request)

    async def GetReconstruction(
        self,
        request: pb.GetReconstructionRequest,
        context: "Context[pb.GetReconstructionRequest, pb.GetReconstructionResponse]",
    ) -> pb.GetReconstructionResponse:
        """Say how far it is."""
        if self._reconstructions is None:
            await _unimplemented(context)
        return await self._reconstructions.get(request)

    async def CancelReconstruction(
        self,
        request: pb.CancelReconstructionRequest,
        context: "Context[pb.CancelReconstructionRequest, pb.CancelReconstructionResponse]",
    ) -> pb.CancelReconstructionResponse:
        """Stop it."""
        if self._reconstructions is None:
            await _unimplemented(context)
        return await self._reconstructions.cancel(request)

    async def ListReconstructions(
        self,
        request: pb.ListReconstructionsRequest,
        context: "Context[pb.ListReconstructionsRequest, pb.ListReconstructionsResponse]",
    ) -> pb.ListReconstructionsResponse:
        """List such work."""
        if self._reconstructions is None:
            await _unimplemented(context)
        return await self._reconstructions.list(request)


async def _unimplemented(context: "Context[Request, Response]") -> NoReturn:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this service does not reconstruct films")
