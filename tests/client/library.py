"""A small library over gRPC: bytes kept in memory by the contract's rules, and cables to cut."""

import contextlib
import hashlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from refilm.v1 import autoencoder_pb2, latents_pb2_grpc, library_pb2_grpc
from refilm.v1 import library_pb2 as pb

from tests.client.scripted_service import IDENTITY, rich

PART_BYTES = 1 << 20
CHUNK_BYTES = 64 * 1024
CREATED = Timestamp(seconds=1_800_000_000)


def fail(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, message: str) -> None:
    details = error_details_pb2.ErrorInfo(reason=reason, domain="refilm")
    context.abort_with_status(rich(code, message, details))


def film_message(film_id: str, data: bytes = b"", title: str = "", **more: Any) -> pb.Film:
    return pb.Film(
        name=f"films/{film_id}",
        uid=f"uid-{film_id}",
        title=title,
        size_bytes=len(data),
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        create_time=CREATED,
        facts=autoencoder_pb2.FilmFacts(
            container="mp4",
            video_codec="h264",
            width=640,
            height=360,
            time_base=autoencoder_pb2.Rational(numerator=1, denominator=24),
            duration=Duration(seconds=60),
        ),
        **more,
    )


class Library(library_pb2_grpc.LibraryServiceServicer, latents_pb2_grpc.LatentsServiceServicer):
    """Keeps films and uploads; questions are answered as a test says in `answers`."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[Any] = []
        self.films: dict[str, pb.Film] = {}
        self.bytes: dict[str, bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.uploaded: dict[str, str] = {}
        self.writers: dict[str, Any] = {}
        self.openings: list[pb.UploadFilmOpening] = []
        self.jobs: dict[str, Iterator[pb.Reconstruction]] = {}
        self.answers: dict[str, Any] = {}
        self.page_size = 50
        self.folder = ""
        self.looks = 20
        self.on_watch: Callable[..., Iterator[pb.WatchReconstructionResponse]] = lambda *_: iter(())
        self.arrived = threading.Condition()
        self.refusals = 0
        self.faults: list[tuple[grpc.StatusCode, str, list[Message]]] = []
        self.after_commit: Callable[[int], object] = lambda size: None
        self.before_answer: Callable[[], object] = lambda: None

    def keep(self, film_id: str, data: bytes, title: str = "", **more: Any) -> pb.Film:
        """Put a film, a rendition or the like into the library."""
        film = self.films[f"films/{film_id}"] = film_message(film_id, data, title, **more)
        self.bytes[film.name] = data
        return film

    def UploadFilm(self, request_iterator, context):
        opening = next(request_iterator).opening
        settings = opening.settings
        self.openings.append(opening)
        with self.arrived:
            self.writers[settings.upload_id] = context
            kept = self.uploads.setdefault(settings.upload_id or "unnamed", bytearray())
        for code, reason, details in self.faults[:1]:
            self.faults.pop(0)
            context.abort_with_status(
                rich(code, "not now", error_details_pb2.ErrorInfo(reason=reason), *details)
            )
        if self.uploaded.get(settings.upload_id, "films/") not in (*self.films, "films/"):
            fail(context, grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND", "it was deleted")
        if opening.write_offset_bytes != len(kept):
            fail(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                "UPLOAD_OFFSET_MISMATCH",
                f"{len(kept)} bytes are committed, not {opening.write_offset_bytes}",
            )
        part = bytearray()
        for request in request_iterator:
            part += request.chunk
            if len(part) >= PART_BYTES:
                self._commit(settings.upload_id, kept, part, context)
                part = bytearray()
        # gRPC ends the requests of a call that was cut as it ends those of one that is whole.
        if settings.film_size_bytes > len(kept) + len(part):
            fail(context, grpc.StatusCode.DATA_LOSS, "FILM_TRUNCATED", "the film is truncated")
        self._commit(settings.upload_id, kept, part, context)
        data = bytes(kept)
        if data.startswith(b"no film"):
            del self.uploads[settings.upload_id or "unnamed"]
            fail(context, grpc.StatusCode.INVALID_ARGUMENT, "NO_FILM", "the bytes are no film")
        film_id = settings.film_id or settings.title.lower().replace(" ", "-") or "film"
        if f"films/{film_id}" in self.films:
            fail(
                context,
                grpc.StatusCode.ALREADY_EXISTS,
                "FILM_EXISTS",
                f"films/{film_id} is there already",
            )
        self.uploaded[settings.upload_id] = f"films/{film_id}"
        film = self.keep(film_id, data, settings.title)
        self.before_answer()
        return pb.UploadFilmResponse(film=film)

    def _commit(
        self, upload_id: str, kept: bytearray, part: bytearray, context: grpc.ServicerContext
    ) -> None:
        # What is in progress of a call that was cut must not land behind the next one's bytes.
        with self.arrived:
            if self.writers[upload_id] is not context:
                context.abort(grpc.StatusCode.ABORTED, "another call goes on with it")
            kept += part
            self.arrived.notify_all()
        self.after_commit(len(kept))

    def GetUpload(self, request, context):
        self.requests.append(request)
        upload_id = request.name.removeprefix("uploads/")
        if upload_id not in self.uploads:
            fail(context, grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND", "no such upload")
        return pb.GetUploadResponse(
            upload=pb.Upload(
                name=request.name,
                committed_bytes=len(self.uploads[upload_id]),
                film=self.films.get(self.uploaded.get(upload_id, "")),
            )
        )

    def CancelUpload(self, request, context):
        if self.uploads.pop(request.name.removeprefix("uploads/"), None) is None:
            fail(context, grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND", "no such upload")
        return pb.CancelUploadResponse()

    def CreateUploadUrl(self, request, context):
        self.requests.append(request)
        return pb.CreateUploadUrlResponse(
            name=f"uploads/{request.settings.upload_id}",
            url="https://store/put?signed",
            expire_time=CREATED,
        )

    def CompleteUpload(self, request, context):
        film_id = request.name.removeprefix("uploads/")
        return pb.CompleteUploadResponse(film=self.keep(film_id, b"put"))

    def ListFilms(self, request, context):
        self.requests.append(request)
        if "(" in request.filter:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field="filter", description='the filter has a "(" that nothing closes'
            )
            context.abort_with_status(
                rich(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "filter: not closed",
                    error_details_pb2.BadRequest(field_violations=[violation]),
                )
            )
        names = sorted(self.films)
        start = int(request.page_token or 0)
        end = start + self.page_size
        return pb.ListFilmsResponse(
            films=[self.films[name] for name in names[start:end]],
            next_page_token=str(end) if end < len(names) else "",
        )

    def GetFilm(self, request, context):
        return pb.GetFilmResponse(film=self._film(request.name, context))

    def DownloadFilm(self, request, context):
        self.requests.append(request)
        if request.name not in self.bytes:
            fail(context, grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND", f"no {request.name}")
        data = self.bytes[request.name]
        if request.read_offset_bytes > len(data):
            fail(context, grpc.StatusCode.OUT_OF_RANGE, "BEYOND_END", "it ends before that")
        end = (
            request.read_offset_bytes + request.read_limit_bytes
            if request.read_limit_bytes
            else len(data)
        )
        yield pb.DownloadFilmResponse(
            facts=pb.DownloadFacts(
                size_bytes=len(data),
                media_type="video/mp4",
                file_name=f"{self.folder}{request.name.split('/')[-1]}.mp4",
            )
        )
        data = data[request.read_offset_bytes : end]
        for start in range(0, len(data), CHUNK_BYTES):
            yield pb.DownloadFilmResponse(chunk=data[start : start + CHUNK_BYTES])

    def CreateDownloadUrls(self, request, context):
        self.requests.append(request)
        fail(
            context,
            grpc.StatusCode.FAILED_PRECONDITION,
            "PRESIGNING_UNSUPPORTED",
            "the library is kept in a folder",
        )

    def DeleteFilm(self, request, context):
        self.requests.append(request)
        if self.refusals:
            self.refusals -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        self._film(request.name, context)
        del self.films[request.name], self.bytes[request.name]
        return pb.DeleteFilmResponse()

    def StartReconstruction(self, request, context):
        self.requests.append(request)
        self._film(request.film, context)
        return pb.StartReconstructionResponse(
            reconstruction=self._job(f"{request.film}/reconstructions/1", context)
        )

    def GetReconstruction(self, request, context):
        self.requests.append(request)
        return pb.GetReconstructionResponse(reconstruction=self._job(request.name, context))

    def CancelReconstruction(self, request, context):
        self.requests.append(request)
        return pb.CancelReconstructionResponse(reconstruction=self._job(request.name, context))

    def WatchReconstruction(self, request, context):
        self.requests.append(request)
        if request.WhichOneof("target") == "rendition":
            yield from self.on_watch(request.rendition, context)
            return
        known = None
        for _ in range(self.looks):
            now = self._job(request.reconstruction, context)
            if now != known:
                yield pb.WatchReconstructionResponse(reconstruction=now)
            if now.state >= pb.RECONSTRUCTION_STATE_SUCCEEDED:
                return
            known = now
        ended = threading.Event()
        if context.add_callback(ended.set):
            ended.wait(60)

    def GetFrame(self, request, context):
        self.requests.append(request)
        return pb.GetFrameResponse(
            frame=autoencoder_pb2.Frame(image=b"a picture"),
            time=Duration(seconds=1, nanos=500_000_000),
            model=IDENTITY,
        )

    def ListReconstructions(self, request, context):
        self.requests.append(request)
        names = sorted(self.jobs)
        start = int(request.page_token or 0)
        return pb.ListReconstructionsResponse(
            reconstructions=[self._job(name, context) for name in names[start : start + 1]],
            next_page_token=str(start + 1) if start + 1 < len(names) else "",
        )

    def ListLatents(self, request, context):
        yield from self._answer(request)

    def ExportLatents(self, request, context):
        yield from self._answer(request)

    def Interpolate(self, request, context):
        yield from self._answer(request)

    def SearchFrames(self, request, context):
        answer = self._answer(request)
        return answer(request) if callable(answer) else answer

    def FindDuplicates(self, request, context):
        answer = self._answer(request)
        return answer(request) if callable(answer) else answer

    def MatchClip(self, request_iterator, context):
        settings = next(request_iterator).settings
        self.clip = b"".join(request.chunk for request in request_iterator)
        return self._answer(settings)

    def _answer(self, request):
        copy = type(request)()
        copy.CopyFrom(request)
        self.requests.append(copy)
        return self.answers[type(request).__name__]

    def _film(self, name: str, context: grpc.ServicerContext) -> pb.Film:
        if name not in self.films:
            fail(context, grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND", f"there is no {name}")
        return self.films[name]

    def _job(self, name: str, context: grpc.ServicerContext) -> pb.Reconstruction:
        if name not in self.jobs:
            fail(context, grpc.StatusCode.NOT_FOUND, "RECONSTRUCTION_NOT_FOUND", f"no {name}")
        job = next(self.jobs[name])
        job.name = name
        return job


def passage(kind: type[Any], start: int, end: int, **more: Any) -> Any:
    """Return a message with a start and an end."""
    return kind(start_time=Duration(seconds=start), end_time=Duration(seconds=end), **more)


def job(state: pb.ReconstructionState.ValueType, frames: int = 0, **more: Any) -> pb.Reconstruction:
    """Return a job as it stands once."""
    return pb.Reconstruction(
        model=IDENTITY,
        settings=autoencoder_pb2.RenditionSettings(
            sound=autoencoder_pb2.RenditionSettings.SOUND_NONE
        ),
        state=state,
        frames=frames,
        estimated_frames=100,
        rendition="films/bunny/renditions/r",
        create_time=CREATED,
        **more,
    )


def stands(*jobs: pb.Reconstruction) -> Iterator[pb.Reconstruction]:
    """Yield a job as it stands at each question; the last for good."""
    return itertools.chain(jobs, itertools.repeat(jobs[-1]))


@contextlib.contextmanager
def serving(library: Library) -> Iterator[Library]:
    """Serve it over a real socket."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    library_pb2_grpc.add_LibraryServiceServicer_to_server(library, server)
    latents_pb2_grpc.add_LatentsServiceServicer_to_server(library, server)
    library.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield library
    finally:
        server.stop(None).wait()


class Cable:
    """A TCP proxy: carries bytes to a service until it is cut."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._budget: list[int] = []
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, *counts: int) -> None:
        """Cut each of the next connections after so many bytes in either direction."""
        self._budget = list(counts)

    def cut(self) -> None:
        """Cut all connections now; new ones are taken."""
        with self._lock:
            self.cuts += 1
            for end in self._sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._sockets.clear()

    def close(self) -> None:
        """Cut all, and take no more."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            with self._lock:
                self._sockets += [near, far]
            budget = [self._budget.pop(0)] if self._budget else [1 << 62]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other, budget), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, budget: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(32 * 1024):
                other.sendall(data)
                budget[0] -= len(data)
                if budget[0] < 0:
                    self.cut()
                    return
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def questions_of(library: Library, kind: type[Message]) -> list[Any]:
    """Return the requests of one kind, in their order."""
    return [request for request in library.requests if isinstance(request, kind)]
