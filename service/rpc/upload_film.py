"""Uploads: their messages, and what they mean to the library."""

import asyncio
import re
import threading
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import grpc
from refilm.v1 import library_pb2 as pb

from service import metrics
from service.errors import (
    IdleCallerError,
    InvalidFieldError,
    OverloadedError,
    ServiceError,
)
from service.library import layout
from service.library.upload import Upload
from service.library.uploads import Uploads, UploadSettings
from service.rpc.download_film import PresigningError, time_to_live
from service.rpc.list_films import film_message
from service.rpc.requests import chunk_of, ended_by_caller, first_request
from service.storage.objects import PresigningUnsupportedError
from service.storage.threads import StorageThreads

MAX_TITLE: Final = 200

_UPLOAD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RETRY_SECONDS = 5.0


class UploadCalls:
    """Answers the calls that bring films into the library."""

    def __init__(
        self,
        uploads: Uploads,
        threads: StorageThreads,
        *,
        max_running: int,
        idle_seconds: float,
    ) -> None:
        self._uploads = uploads
        self._threads = threads
        self._max_running = max_running
        self._idle_seconds = idle_seconds
        self._running = 0

    async def upload(
        self,
        requests: AsyncIterator[pb.UploadFilmRequest],
        context: "grpc.aio.ServicerContext[pb.UploadFilmRequest, pb.UploadFilmResponse]",
    ) -> pb.UploadFilmResponse:
        """Answer UploadFilm. Leaves what is committed, however it ends."""
        first = await first_request(requests, "opening", "the film's bytes", self._idle_seconds)
        opening = first.opening
        settings = upload_settings(opening.settings, "opening.settings")
        with self._place():
            upload = await self._threads.run(self._uploads.open, settings, opening.write_offset)
            try:
                await self._receive(upload, requests)
                await ended_by_caller(context)
                film = await self._threads.run(upload.finish)
            except BaseException:
                # What runs on a thread is told to end; what is committed stays.
                upload.cancel()
                with suppress(ServiceError):
                    await asyncio.shield(self._threads.run(upload.keep))
                raise
        return pb.UploadFilmResponse(film=film_message(film))

    async def get(self, request: pb.GetUploadRequest) -> pb.GetUploadResponse:
        """Answer GetUpload."""
        progress = await self._threads.run(
            self._uploads.progress, _upload_id(request.upload_id, "upload_id")
        )
        film = None if progress.film is None else film_message(progress.film)
        return pb.GetUploadResponse(committed_size=progress.committed, film=film)

    async def cancel(self, request: pb.CancelUploadRequest) -> pb.CancelUploadResponse:
        """Answer CancelUpload."""
        await self._threads.run(self._uploads.cancel, _upload_id(request.upload_id, "upload_id"))
        return pb.CancelUploadResponse()

    async def create_url(self, request: pb.CreateUploadUrlRequest) -> pb.CreateUploadUrlResponse:
        """Answer CreateUploadUrl; raises PresigningError."""
        _upload_id(request.settings.upload_id, "settings.upload_id")
        settings = upload_settings(request.settings, "settings")
        valid = time_to_live(request.time_to_live if request.HasField("time_to_live") else None)
        response = pb.CreateUploadUrlResponse()
        response.expire_time.FromDatetime(datetime.now(UTC) + valid)
        try:
            response.url = await self._threads.run(self._uploads.presign, settings, valid)
        except PresigningUnsupportedError:
            raise PresigningError("UploadFilm") from None
        return response

    async def complete(self, request: pb.CompleteUploadRequest) -> pb.CompleteUploadResponse:
        """Answer CompleteUpload."""
        upload_id = _upload_id(request.upload_id, "upload_id")
        cancelled = threading.Event()
        with self._place():
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
                f"no message came for {self._idle_seconds:.0f} s; go on from the committed size, "
                "with the same upload_id",
                metadata={"committed_size": str(upload.committed)},
            ) from None

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Bound the uploads that hold a part in memory each."""
        if self._running >= self._max_running:
            raise OverloadedError(
                f"{self._max_running} uploads are under way already; try again later",
                reason="TOO_MANY_UPLOADS",
                retry_after=_RETRY_SECONDS,
            )
        self._running += 1
        metrics.UPLOADS_RUNNING.set(self._running)
        try:
            yield
        finally:
            self._running -= 1
            metrics.UPLOADS_RUNNING.set(self._running)


def upload_settings(message: pb.UploadSettings, field: str) -> UploadSettings:
    """Return what a caller says of an upload; `field` is the message's path in the request.

    Raises InvalidFieldError.
    """
    if message.upload_id:
        _upload_id(message.upload_id, f"{field}.upload_id")
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


def _upload_id(value: str, field: str) -> str:
    if not _UPLOAD_ID.fullmatch(value):
        what = "is empty" if not value else "is no upload's id"
        raise InvalidFieldError(
            field,
            f'{what}; it has 1 to 64 letters, digits, "-", "_" or "."',
            reason="INVALID_UPLOAD_ID",
        )
    return value
