# Made of refilm/aio/_films.py by `make proto`: edit that.
"""The library's films."""

from __future__ import annotations

import uuid
from collections.abc import Generator

from refilm import _film_wire as wire
from refilm._calls import Calls
from refilm._film_values import DownloadUrls, Film, Rendition, StoredLatents, Upload, UploadUrl
from refilm._names import film_name, upload_name
from refilm._times import Seconds, duration, moment
from refilm._values import ImageFormat, Picture
from refilm._wire import image_format
from refilm.v1 import library_pb2 as pb


class FilmCalls(Calls):
    """The part of the client that gets and deletes films."""

    def films(self, *, filter: str = "", timeout: float | None = None) -> Generator[Film]:
        """Yields the library's films, by id; each page is requested when it is needed.

        Args:
            filter: Which, as in AIP-160: for example 'title:"bunny" AND duration > 600s'. Fields:
                film_id, title, size_bytes, digest, create_time, duration, width, height,
                container, video_codec.
            timeout: Seconds for each page; None for the client's.

        Raises:
            InvalidRequestError: The filter cannot be understood.
            RefilmError: The call failed for another reason.
        """
        token = ""
        while True:
            request = pb.ListFilmsRequest(filter=filter, page_token=token)
            page = self._transport.unary(self._library.ListFilms, request, timeout)
            for message in page.films:
                yield wire.film(message)
            token = page.next_page_token
            if not token:
                return

    def film(self, film: str | Film, *, timeout: float | None = None) -> Film:
        """Gets one film, with its renditions and latents.

        Raises:
            NotFoundError: The library has no such film.
            RefilmError: The call failed for another reason.
        """
        request = pb.GetFilmRequest(name=film_name(film))
        answer = self._transport.unary(self._library.GetFilm, request, timeout)
        return wire.film(answer.film)

    def delete_film(
        self, film: str | Film, *, request_id: str = "", timeout: float | None = None
    ) -> None:
        """Deletes a film and everything made from it permanently; its id is not reused.

        When this returns, nothing of it can be listed, searched, matched or downloaded.

        Args:
            film: Which.
            request_id: A UUID that identifies a repeated call, which then succeeds again. If
                omitted, one is generated, which all attempts of this call share.
            timeout: Seconds; None for the client's.

        Raises:
            NotFoundError: The library has no such film, or no longer has it.
            RefilmError: The call failed for another reason.
        """
        request = pb.DeleteFilmRequest(
            name=film_name(film), request_id=request_id or str(uuid.uuid4())
        )
        self._transport.unary(self._library.DeleteFilm, request, timeout)

    def download_urls(
        self,
        source: str | Film | Rendition | StoredLatents,
        *,
        time_to_live: Seconds | None = None,
        timeout: float | None = None,
    ) -> DownloadUrls:
        """Creates URLs at which the object store itself serves what `download` would.

        Args:
            source: What to download, by value or by name.
            time_to_live: How long they are valid: at most 7 days; None for an hour.
            timeout: Seconds; None for the client's.

        Raises:
            NotFoundError: The library has no such film, rendition or latents.
            PreconditionError: The library is stored in a folder, which cannot serve URLs.
            RefilmError: The call failed for another reason.
        """
        request = pb.CreateDownloadUrlsRequest(
            name=source if isinstance(source, str) else source.name,
            time_to_live=None if time_to_live is None else duration(time_to_live),
        )
        answer = self._transport.unary(self._library.CreateDownloadUrls, request, timeout)
        return DownloadUrls(tuple(answer.urls), moment(answer.expire_time))

    def frame(
        self,
        source: str | Rendition | StoredLatents,
        time: Seconds = 0.0,
        *,
        format: ImageFormat = "jpeg",
        timeout: float | None = None,
    ) -> Picture:
        """Gets one frame of a film as a model reconstructs it, for a poster or preview.

        Args:
            source: A rendition or stored latents of the film, by value or by name; the picture is
                256 x 144 whatever the rendition's layout and size.
            time: Seconds from the film's first frame; the frame shown then is returned.
            format: A "jpeg", "png" or "webp" file, or "raw" pixels.
            timeout: Seconds; None for the client's.

        Returns:
            The picture; its `time` is the frame's presentation time.

        Raises:
            NotFoundError: The library has no such rendition or latents, or the service no
                longer has the model.
            OutOfRangeError: The film ends before this time.
            RefilmError: The call failed for another reason.
            ValueError: The format is unknown.
        """
        request = pb.GetFrameRequest(
            name=source if isinstance(source, str) else source.name,
            time=duration(time),
            format=image_format(format),
        )
        answer = self._transport.unary(self._library.GetFrame, request, timeout)
        return wire.picture(answer, format)

    def upload_url(
        self,
        *,
        title: str = "",
        film_id: str = "",
        upload_id: str = "",
        size: int = 0,
        digest: str = "",
        time_to_live: Seconds | None = None,
        timeout: float | None = None,
    ) -> UploadUrl:
        """Creates a URL at which the object store itself accepts a film's bytes.

        PUT them there, then call `complete_upload` with the answer's `upload_id`.

        Args:
            title: As for `upload_film`.
            film_id: As for `upload_film`.
            upload_id: As for `upload_film`; if omitted, a UUID is generated.
            size: The film's size in bytes, if the caller knows it.
            digest: As for `upload_film`.
            time_to_live: How long it is valid: at most 7 days; None for an hour.
            timeout: Seconds; None for the client's.

        Raises:
            AlreadyExistsError: Another film has or had the id.
            PreconditionError: The library is stored in a folder, which accepts no uploads.
            RefilmError: The call failed for another reason.
        """
        settings = pb.UploadSettings(
            upload_id=upload_id or str(uuid.uuid4()),
            film_id=film_id,
            title=title,
            film_size_bytes=size,
            digest=digest,
        )
        request = pb.CreateUploadUrlRequest(
            settings=settings,
            time_to_live=None if time_to_live is None else duration(time_to_live),
        )
        answer = self._transport.unary(self._library.CreateUploadUrl, request, timeout)
        return UploadUrl(settings.upload_id, answer.url, moment(answer.expire_time))

    def complete_upload(self, upload_id: str, *, timeout: float | None = None) -> Film:
        """Creates a film from the bytes that were PUT to an upload URL. Safe to repeat.

        Raises:
            NotFoundError: There is no such upload.
            InvalidRequestError: The bytes are not a film, or not the announced one.
            RefilmError: The call failed for another reason.
        """
        request = pb.CompleteUploadRequest(name=upload_name(upload_id))
        answer = self._transport.unary(self._library.CompleteUpload, request, timeout)
        return wire.film(answer.film)

    def upload(self, upload_id: str, *, timeout: float | None = None) -> Upload:
        """Gets an upload's progress.

        Raises:
            NotFoundError: It was never started, or was cancelled.
            RefilmError: The call failed for another reason.
        """
        request = pb.GetUploadRequest(name=upload_name(upload_id))
        answer = self._transport.unary(self._library.GetUpload, request, timeout)
        return wire.upload(answer.upload)

    def cancel_upload(self, upload_id: str, *, timeout: float | None = None) -> None:
        """Cancels an upload and removes its bytes.

        Raises:
            NotFoundError: There is no such upload.
            RefilmError: The call failed for another reason.
        """
        request = pb.CancelUploadRequest(name=upload_name(upload_id))
        self._transport.unary(self._library.CancelUpload, request, timeout)
