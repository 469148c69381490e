"""Calls LibraryService as any gRPC client would."""

import hashlib
import random
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from refilm.v1 import library_pb2 as pb
from refilm.v1 import library_pb2_grpc as pb_grpc

from tests.support.object_stores import LibraryStore
from tests.support.service_process import ROOT, ServiceProcess, wait_for

PART = 8 * 2**20
CHUNK = 2**20
TIMEOUT = 60.0
SERVICE = "refilm.v1.LibraryService"

_EXAMPLE = ROOT / "examples/films/big_buck_bunny_60s.mp4"


@cache
def film_bytes(size: int = 0, seed: int = 0) -> bytes:
    """Return a film of exactly `size` bytes, an MP4 and a random box; 0: the MP4."""
    film = _EXAMPLE.read_bytes()
    if not size:
        return film
    rest = size - len(film)
    assert rest >= 8, "the film itself is larger"
    return film + rest.to_bytes(4, "big") + b"free" + random.Random(seed).randbytes(rest - 8)


def digest_of(data: bytes) -> str:
    """Return a film's digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def start_library(folder: Path, store: LibraryStore, **settings: str) -> ServiceProcess:
    """Start a service with a library and no model, which is ready in a second or two."""
    return ServiceProcess(
        folder,
        [],
        {**store.environment, "REFILM_TRITON_ADDRESS": "127.0.0.1:9", **settings},
    )


class LibraryClient:
    """One caller of one service."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = pb_grpc.LibraryServiceStub(channel)

    def upload(self, film: bytes, write_offset: int = 0, **settings: Any) -> pb.Film:
        """Send a film, from an offset; keyword arguments are fields of UploadSettings."""
        messages = upload_messages(film, write_offset, **settings)
        return self.stub.UploadFilm(messages, timeout=TIMEOUT).film

    def committed(self, upload_id: str) -> int:
        """Return an upload's committed bytes, 0 if it does not exist."""
        try:
            request = pb.GetUploadRequest(name=f"uploads/{upload_id}")
            return self.stub.GetUpload(request, timeout=TIMEOUT).upload.committed_bytes
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
            return 0

    def go_on(self, film: bytes, **settings: Any) -> pb.Film:
        """Send the uncommitted part of a film."""
        return self.upload(film, self.committed(str(settings["upload_id"])), **settings)

    def get(self, name: str) -> pb.Film:
        """Get a film."""
        return self.stub.GetFilm(pb.GetFilmRequest(name=name), timeout=TIMEOUT).film

    def page(self, **fields: Any) -> pb.ListFilmsResponse:
        """Get a page of films; keyword arguments are fields of ListFilmsRequest."""
        return self.stub.ListFilms(pb.ListFilmsRequest(**fields), timeout=TIMEOUT)

    def all(self, **fields: Any) -> list[pb.Film]:
        """Get all pages."""
        films: list[pb.Film] = []
        token = ""
        while True:
            page = self.page(page_token=token, **fields)
            films.extend(page.films)
            token = page.next_page_token
            if not token:
                return films

    def download(self, name: str, offset: int = 0, limit: int = 0) -> bytes:
        """Download something, whole or in part."""
        return self.download_with_facts(name, offset, limit)[1]

    def download_with_facts(
        self, name: str, offset: int = 0, limit: int = 0
    ) -> tuple[pb.DownloadFacts, bytes]:
        """Download something with its description."""
        request = pb.DownloadFilmRequest(
            name=name, read_offset_bytes=offset, read_limit_bytes=limit
        )
        responses = self.stub.DownloadFilm(request, timeout=TIMEOUT)
        first = next(responses)
        assert first.WhichOneof("payload") == "facts"
        chunks = []
        for response in responses:
            assert 1 <= len(response.chunk) <= 2**20
            chunks.append(response.chunk)
        return first.facts, b"".join(chunks)

    def delete(self, name: str, request_id: str = "") -> None:
        """Delete a film."""
        self.stub.DeleteFilm(
            pb.DeleteFilmRequest(name=name, request_id=request_id), timeout=TIMEOUT
        )


def upload_messages(
    film: bytes, write_offset: int = 0, **settings: Any
) -> Iterator[pb.UploadFilmRequest]:
    """The opening message, and the film from an offset in chunks."""
    yield opening(write_offset, **settings)
    for start in range(write_offset, len(film), CHUNK):
        yield pb.UploadFilmRequest(chunk=film[start : start + CHUNK])


def opening(write_offset: int = 0, **settings: Any) -> pb.UploadFilmRequest:
    """The first message of an upload."""
    return pb.UploadFilmRequest(
        opening=pb.UploadFilmOpening(
            settings=pb.UploadSettings(**settings), write_offset_bytes=write_offset
        )
    )


class HeldUpload:
    """An upload that has sent part of a film, and stays open."""

    def __init__(
        self,
        client: LibraryClient,
        film: bytes,
        sent: int,
        write_offset: int = 0,
        **settings: Any,
    ) -> None:
        self._more = threading.Event()
        self._left = False
        self._taken = threading.Event()

        def messages() -> Iterator[pb.UploadFilmRequest]:
            yield opening(write_offset, **settings)
            for start in range(write_offset, sent, CHUNK):
                yield pb.UploadFilmRequest(chunk=film[start : min(start + CHUNK, sent)])
            self._taken.set()
            self._more.wait()
            if not self._left:
                for start in range(sent, len(film), CHUNK):
                    yield pb.UploadFilmRequest(chunk=film[start : start + CHUNK])

        self._client = client
        self._upload_id = str(settings.get("upload_id", ""))
        self._committed = sent // PART * PART
        self.call = client.stub.UploadFilm.future(messages(), timeout=TIMEOUT)

    def wait_committed(self) -> None:
        """Wait until all that can be committed of the sent bytes is committed."""
        assert self._taken.wait(TIMEOUT)
        wait_for(
            lambda: self._client.committed(self._upload_id) >= self._committed,
            f"{self._committed} committed bytes",
            TIMEOUT,
        )

    def send_rest(self) -> pb.Film:
        """Send the rest of the film, and return the result."""
        self._more.set()
        return self.call.result(TIMEOUT).film

    def cut(self) -> None:
        """Cancel, as a caller who has left."""
        self._left = True
        self.call.cancel()
        self._more.set()
