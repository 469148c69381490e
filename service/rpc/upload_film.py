"""Uploads: maps their messages to the library."""

import asyncio
import re
import threading
import unicodedata
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from refilm.v1 import library_pb2 as pb

from service import metrics
from service.errors import (
    IdleCallerError,
    InvalidFieldError,
    ServiceError,
)
from service.library import layout
from service.library.library import Library
from service.library.upload import Upload
from service.library.uploads import UploadSettings
from service.limit import Limit
from service.rpc.call import Context
from service.rpc.download_film import PresigningError, time_to_live
from service.rpc.list_films import film_message
from service.rpc.names import parse_upload_name, upload_name
from service.rpc.requests import chunk_of, ended_by_caller, first_request
from service.storage.objects import PresigningUnsupportedError

MAX_TITLE: Final = 200

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class UploadCalls:
    """Handlers for uploads to the library."""

    def __init__(self, library: Library, limit: Limit, *, idle_seconds: float) -> None:
        self._uploads = library.uploads
        self._threads = library.threads
        self._limit = limit
        self._idle_seconds = idle_seconds

    async def UploadFilm(
        self,
        requests: AsyncIterator[pb.UploadFilmRequest],
        context: "Context[pb.UploadFilmRequest, pb.UploadFilmResponse]",
    ) -> pb.UploadFilmResponse:
        """Store a film as it arrives. Committed bytes stay, however the call ends."""
        first = await first_request(requests, "opening", "the film's bytes", self._idle_seconds)
        opening = first.opening
        settings = upload_settings(opening.settings, "opening.settings")
        with self._limit:
            upload = await self._threads.run(
                self._uploads.open, settings, opening.write_offset_bytes
            )
            try:
                await self._receive(upload, requests)
                await ended_by_caller(context)
                film = await self._threads.run(upload.finish)
            except BaseException:
                # Cancels the work on the storage thread; committed bytes stay.
                upload.cancel()
                with suppress(ServiceError):
                    await asyncio.shield(self._threads.run(upload.keep))
                raise
        return pb.UploadFilmResponse(film=film_message(film))

    async def GetUpload(
        self,
        request: pb.GetUploadRequest,
        context: "Context[pb.GetUploadRequest, pb.GetUploadResponse]",
    ) -> pb.GetUploadResponse:
        """Get an upload's progress."""
        upload_id = parse_upload_name(request.name, "name")
        progress = await self._threads.run(self._uploads.progress, upload_id)
        return pb.GetUploadResponse(
            upload=pb.Upload(
                name=upload_name(upload_id),
                committed_bytes=progress.committed,
                film=None if progress.film is None else film_message(progress.film),
            )
        )

    async def CancelUpload(
        self,
        request: pb.CancelUploadRequest,
        context: "Context[pb.CancelUploadRequest, pb.CancelUploadResponse]",
    ) -> pb.CancelUploadResponse:
        """Cancel an upload."""
        upload_id = parse_upload_name(request.name, "name")
        await self._threads.run(self._uploads.cancel, upload_id)
        return pb.CancelUploadResponse()

    async def CreateUploadUrl(
        self,
        request: pb.CreateUploadUrlRequest,
        context: "Context[pb.CreateUploadUrlRequest, pb.CreateUploadUrlResponse]",
    ) -> pb.CreateUploadUrlResponse:
        """Start an upload directly to the store; raises PresigningError."""
        _require_upload_id(request.settings.upload_id, "settings.upload_id")
        settings = upload_settings(request.settings, "settings")
        valid = time_to_live(request.time_to_live if request.HasField("time_to_live") else None)
        response = pb.CreateUploadUrlResponse(name=upload_name(settings.upload_id))
        response.expire_time.FromDatetime(datetime.now(UTC) + valid)
        try:
            response.url = await self._threads.run(self._uploads.presign, settings, valid)
        except PresigningUnsupportedError:
            raise PresigningError from None
        return response

    async def CompleteUpload(
        self,
        request: pb.CompleteUploadRequest,
        context: "Context[pb.CompleteUploadRequest, pb.CompleteUploadResponse]",
    ) -> pb.CompleteUploadResponse:
        """Make a film from the bytes uploaded to the store."""
        upload_id = parse_upload_name(request.name, "name")
        cancelled = threading.Event()
        with self._limit:
            try:
                film = await self._threads.run(self._uploads.complete, upload_id, cancelled)
            finally:
                cancelled.set()
        return pb.CompleteUploadResponse(film=film_message(film))

    async def _receive(self, upload: Upload, requests: AsyncIterator[pb.UploadFilmRequest]) -> None:
        if upload.complete:
            return
        while (request := await self._next(requests, upload)) is not None:
            chunk = chunk_of(request, "opening")
            metrics.UPLOAD_BYTES.inc(len(chunk))
            await self._threads.run(upload.write, chunk)

    async def _next(
        self, requests: AsyncIterator[pb.UploadFilmRequest], upload: Upload
    ) -> pb.UploadFilmRequest | None:
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await anext(aiter(requests), None)
        except TimeoutError:
            raise IdleCallerError(
                f"no message came for {self._idle_seconds:.0f} s; resume from the committed bytes, "
                "with the same upload_id",
                metadata={"committed_bytes": str(upload.committed)},
            ) from None


def upload_settings(message: pb.UploadSettings, field: str) -> UploadSettings:
    """Return a caller's upload settings; `field` is the message's path in the request.

    Raises InvalidFieldError.
    """
    if message.upload_id:
        _require_upload_id(message.upload_id, f"{field}.upload_id")
    if message.film_id and not layout.FILM_ID.fullmatch(message.film_id):
        raise InvalidFieldError(
            f"{field}.film_id",
            'must have 1 to 63 small letters, digits and "-", and begin with a letter or digit',
            reason="INVALID_FILM_ID",
        )
    if len(message.title) > MAX_TITLE:
        raise InvalidFieldError(
            f"{field}.title",
            f"has {len(message.title)} characters; must have at most {MAX_TITLE}",
            reason="INVALID_TITLE",
        )
    if any(unicodedata.category(letter) == "Cc" for letter in message.title):
        raise InvalidFieldError(
            f"{field}.title", "holds control characters; must be one line", reason="INVALID_TITLE"
        )
    if message.digest and not _DIGEST.fullmatch(message.digest):
        raise InvalidFieldError(
            f"{field}.digest",
            'is no digest; expected "sha256:" and 64 hexadecimal digits in lower case',
            reason="INVALID_DIGEST",
        )
    return UploadSettings(
        message.upload_id,
        message.film_id,
        message.title,
        message.film_size_bytes or None,
        message.digest,
    )


def _require_upload_id(value: str, field: str) -> None:
    if not layout.UPLOAD_ID.fullmatch(value):
        what = "is empty" if not value else "is no upload's id"
        raise InvalidFieldError(
            field,
            f'{what}; it has 1 to 64 letters, digits, "-", "_" or "."',
            reason="INVALID_UPLOAD_ID",
        )
