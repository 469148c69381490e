# Made of refilm/aio/_transfers.py by `make proto`: edit that.
"""Uploads and downloads, which resume after an interruption."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import grpc

from refilm import _film_wire as wire
from refilm._calls import Calls
from refilm._errors import (
    DataLossError,
    NotFoundError,
    OverloadedError,
    RefilmError,
    UnavailableError,
)
from refilm._film_values import (
    DownloadFacts,
    Film,
    Rendition,
    StoredLatents,
    TransferProgress,
    Upload,
)
from refilm._names import upload_name
from refilm._output import FilmSink, Output
from refilm._platform import Items, as_file, blocking
from refilm._source import FilmSource
from refilm._transfer import TransferMeter, UploadFile
from refilm._tries import Tries
from refilm.v1 import library_pb2 as pb

UploadSource = FilmSource | bytes | Items[bytes]
"""A film's path, its bytes, a file object that reads them, or pieces of them."""

_CHUNK_BYTES = 256 * 1024


class TransferCalls(Calls):
    """The part of the client that moves films to and from the library."""

    def upload_film(
        self,
        source: UploadSource,
        *,
        title: str = "",
        film_id: str = "",
        upload_id: str = "",
        size: int | None = None,
        digest: str = "",
        progress: Callable[[TransferProgress], object] | None = None,
        timeout: float | None = None,
    ) -> Film:
        """Uploads a film into the library. It is never held in memory whole.

        With a path, bytes or a seekable file object the upload is resumed automatically when the
        connection or the service is lost, or the service is overloaded, until about a minute of
        retries has failed. With an `upload_id` a later call, also from another program, resumes
        where this one ended.

        Args:
            source: The film's path, its bytes, a file object, or an iterable of `bytes`.
            title: The film's title.
            film_id: 1 to 63 small letters, digits and "-"; derived from the title if empty.
            upload_id: 1 to 64 letters, digits, "-", "_" or "."; the same for the same film, title
                and film_id only.
            size: The film's size in bytes, if the source does not say and the caller knows.
            digest: "sha256:" and 64 hexadecimal digits, if the caller knows it: the service
                refuses other bytes. If omitted, it is computed on the way and compared at the end.
            progress: Called about twice a second with the upload's progress, on the
                connection's own thread.
            timeout: Seconds, including all retries; None for the client's `stream_timeout`.

        Raises:
            AlreadyExistsError: Another film has or had the id.
            InvalidRequestError: It is not a film, or its digest differs.
            OverloadedError: The film is larger than the service accepts.
            NotFoundError: It was uploaded with this `upload_id`, and has been deleted.
            DataLossError: The library's bytes are not those that were read here.
            RefilmError: The call failed for another reason.
            ValueError: The source ends before what an earlier call uploaded.
            OSError: The file cannot be read.
        """
        with closing(UploadFile(as_file(source))) as film:
            settings = pb.UploadSettings(
                upload_id=upload_id or (str(uuid.uuid4()) if film.rereadable else ""),
                film_id=film_id,
                title=title,
                film_size_bytes=film.size or size or 0,
                digest=digest,
            )
            meter = TransferMeter(progress, film.size or size)
            stored = self._upload(film, settings, meter, timeout)
            # Compared with what was read here, even if an earlier call uploaded part of it.
            read_here = blocking(film.digest)
            if stored.digest != read_here:
                raise DataLossError(
                    f"{stored.name} holds other bytes than were read here ({stored.digest}, not "
                    f"{read_here}): the file changed meanwhile, or an earlier upload was another's",
                    code=grpc.StatusCode.DATA_LOSS,
                    reason="DIGEST_MISMATCH",
                )
            meter.finish(stored.size)
            return stored

    def _upload(
        self,
        film: UploadFile,
        settings: pb.UploadSettings,
        meter: TransferMeter,
        timeout: float | None,
    ) -> Film:
        def requests(offset: int) -> Iterator[pb.UploadFilmRequest]:
            opening = pb.UploadFilmOpening(settings=settings, write_offset_bytes=offset)
            yield pb.UploadFilmRequest(opening=opening)
            reader = blocking(film.begin, offset)
            while chunk := blocking(reader.read, _CHUNK_BYTES):
                yield pb.UploadFilmRequest(chunk=chunk)
                offset += len(chunk)
                meter.went_on(offset)

        tries = Tries(self._transport.transfer_timeout(timeout))
        committed: int | None = None
        while True:
            try:
                offset = 0
                if settings.upload_id:
                    known = self._known_upload(settings.upload_id, tries)
                    if known.film is not None:
                        return known.film
                    offset = known.committed
                if committed is not None and offset > committed:
                    tries.went_on()
                committed = offset
                meter.restart()
                answer = self._transport.upload(
                    self._library.UploadFilm, requests(offset), tries.left()
                )
                return wire.film(answer.film)
            except RefilmError as error:
                # An upload that was never started, or that cannot be resumed, has ended.
                again = committed is not None and settings.upload_id and film.rereadable
                if not again or not _can_go_on(error):
                    raise
                self._transport.pause(tries.pause_after(error))

    def _known_upload(self, upload_id: str, tries: Tries) -> Upload:
        request = pb.GetUploadRequest(name=upload_name(upload_id))
        timeout = min(tries.left(), self._transport.timeout)
        try:
            answer = self._transport.unary(self._library.GetUpload, request, timeout)
        except NotFoundError:
            return Upload(upload_id, 0, None)
        return wire.upload(answer.upload)

    def download(
        self,
        source: str | Film | Rendition | StoredLatents,
        out: FilmSink,
        *,
        offset: int = 0,
        limit: int = 0,
        progress: Callable[[TransferProgress], object] | None = None,
        timeout: float | None = None,
    ) -> DownloadFacts:
        """Downloads a film's source, a rendition, or latents (as one .npy file), into a file.

        A path `out` is written atomically. An interrupted download is resumed, until about a minute
        of retries has failed.

        Args:
            source: What to download, by value or by name.
            out: A path, or a file object to write to.
            offset: The first byte wanted.
            limit: The maximum number of bytes; 0 for all that follow.
            progress: Called about twice a second with the download's progress.
            timeout: Seconds, including all retries; None for the client's `stream_timeout`.

        Returns:
            Its description; the size is that of the whole, even if a range was requested.

        Raises:
            NotFoundError: The library has no such film, rendition or latents.
            OutOfRangeError: It ends before `offset`.
            RefilmError: The call failed for another reason.
            OSError: The file cannot be written.
        """
        meter = TransferMeter(progress, None)
        with Output(out) as output:
            events = self.download_stream(source, offset=offset, limit=limit, timeout=timeout)
            with closing(events):
                for event in events:
                    if isinstance(event, bytes):
                        blocking(output.write, event)
                        meter.went_on(output.written)
                    else:
                        facts = event
                        meter.total = _wanted(facts, offset, limit)
            blocking(output.commit)
            meter.finish(output.written)
        return facts

    def download_stream(
        self,
        source: str | Film | Rendition | StoredLatents,
        *,
        offset: int = 0,
        limit: int = 0,
        timeout: float | None = None,
    ) -> Generator[DownloadFacts | bytes]:
        """Downloads and yields the data as it arrives: the facts first, then `bytes`.

        The arguments and errors are those of `download`, and it resumes as that does.
        """
        if offset < 0 or limit < 0:
            raise ValueError("offset and limit are numbers of bytes, from 0")
        name = source if isinstance(source, str) else source.name
        tries = Tries(self._transport.transfer_timeout(timeout))
        facts: DownloadFacts | None = None
        done = 0
        while True:
            request = pb.DownloadFilmRequest(
                name=name,
                read_offset_bytes=offset + done,
                read_limit_bytes=limit - done if limit else 0,
            )
            try:
                responses = self._transport.answers(
                    self._library.DownloadFilm, request, tries.left()
                )
                with closing(responses):
                    for response in responses:
                        if response.WhichOneof("payload") == "chunk":
                            done += len(response.chunk)
                            tries.went_on()
                            yield response.chunk
                        elif facts is None:
                            facts = wire.download_facts(response.facts)
                            yield facts
                if facts is None or done < _wanted(facts, offset, limit):
                    raise UnavailableError(
                        "the service ended the download before its end",
                        code=grpc.StatusCode.UNAVAILABLE,
                    )
                return
            except UnavailableError as error:
                if facts is None:
                    raise
                if done == _wanted(facts, offset, limit):
                    return
                self._transport.pause(tries.pause_after(error))


def _can_go_on(error: RefilmError) -> bool:
    """Returns whether an upload that failed with this error is worth resuming."""
    if isinstance(error, OverloadedError):
        return error.retry_after is not None
    # Aborted: it was idle for too long (a laptop asleep), or another caller sent it as well.
    # Mismatch: data of the interrupted call was still being written to disk.
    return (
        isinstance(error, UnavailableError)
        or error.code is grpc.StatusCode.ABORTED
        or error.reason == "UPLOAD_OFFSET_MISMATCH"
    )


def _wanted(facts: DownloadFacts, offset: int, limit: int) -> int:
    behind = max(0, facts.size - offset)
    return min(behind, limit) if limit else behind
