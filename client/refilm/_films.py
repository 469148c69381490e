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
    """The part of the client that asks for films and deletes them."""

    def films(self, *, filter: str = "", timeout: float | None = None) -> Generator[Film]:
        """Yields the library's films, by id; the next page is asked for when it is needed.

        Args:
            filter: Which, as in AIP-160: for example 'title:"bunny" AND duration > 600s'. Fields:
                film_id, title, size_bytes, digest, create_time, duration, width, height,
                container, video_codec.
            timeout: Seconds a page; None for the client's.

        Raises:
            InvalidRequestError: The filter cannot be understood.
            RefilmError: Whatever else the call ended with.
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
            RefilmError: Whatever else the call ended with.
        """
        request = pb.GetFilmRequest(name=film_name(film))
        answer = self._transport.unary(self._library.GetFilm, request, timeout)
        return wire.film(answer.film)

    def delete_film(
        self, film: str | Film, *, request_id: str = "", timeout: float | None = None
    ) -> None:
        """Deletes a film with everything made of it, for good; its id is not used again.

        When this returns, nothing of it can be listed, searched, matched or downloaded.

        Args:
            film: Which.
            request_id: A UUID that makes a repeated call the same call, which succeeds again. One
                is made where it is left out: tries of one call are the same call.
            timeout: Seconds; None for the client's.

        Raises:
            NotFoundError: The library has no such film, or no more.
            RefilmError: Whatever else the call ended with.
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
        """Makes URLs at which the object store itself serves what `download` would.

        Args:
            source: Which, by value or by name.
            time_to_live: How long they are valid: at most 7 days; None for an hour.
            timeout: Seconds; None for the client's.

        Raises:
            NotFoundError: The library has no such film, rendition or latents.
            PreconditionError: The library is kept in a folder, which serves nothing.
            RefilmError: Whatever else the call ended with.
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
        """Gets one frame of a film as a model remembers it: a poster, or what lies under a pointer.

        Args:
            source: A rendition or stored latents of the film, by value or by name; the picture is
                256 x 144 whatever the rendition's layout and size.
            time: Seconds from the film's first frame: the frame that is shown then.
            format: A "jpeg", "png" or "webp" file, or "raw" pixels.
            timeout: Seconds; None for the client's.

        Returns:
            The picture; its `time` says when the frame begins to be shown.

        Raises:
            NotFoundError: The library has no such rendition or latents, or the service has the
                model no more.
            OutOfRangeError: The film ends before this time.
            RefilmError: Whatever else the call ended with.
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
        """Makes a URL at which the object store itself takes a film's bytes.

        PUT them there, then call `complete_upload` with the answer's `upload_id`.

        Args:
            title: As for `upload_film`.
            film_id: As for `upload_film`.
            upload_id: As for `upload_film`; a UUID is made where it is left out.
            size: The film's size in bytes, where the caller knows it.
            digest: As for `upload_film`.
            time_to_live: How long it is valid: at most 7 days; None for an hour.
            timeout: Seconds; None for the client's.

        Raises:
            AlreadyExistsError: Another film has the id, or had it.
            PreconditionError: The library is kept in a folder, which takes nothing.
            RefilmError: Whatever else the call ended with.
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
        """Makes a film of the bytes that were PUT to an upload URL. Safe to repeat.

        Raises:
            NotFoundError: There is no such upload.
            InvalidRequestError: The bytes are no film, or not the one that was announced.
            RefilmError: Whatever else the call ended with.
        """
        request = pb.CompleteUploadRequest(name=upload_name(upload_id))
        answer = self._transport.unary(self._library.CompleteUpload, request, timeout)
        return wire.film(answer.film)

    def upload(self, upload_id: str, *, timeout: float | None = None) -> Upload:
        """Gets how far an upload is.

        Raises:
            NotFoundError: It was never begun, or was given up.
            RefilmError: Whatever else the call ended with.
        """
        request = pb.GetUploadRequest(name=upload_name(upload_id))
        answer = self._transport.unary(self._library.GetUpload, request, timeout)
        return wire.upload(answer.upload)

    def cancel_upload(self, upload_id: str, *, timeout: float | None = None) -> None:
        """Gives an upload up; its bytes are removed.

        Raises:
            NotFoundError: There is no such upload.
            RefilmError: Whatever else the call ended with.
        """
        request = pb.CancelUploadRequest(name=upload_name(upload_id))
        self._transport.unary(self._library.CancelUpload, request, timeout)
