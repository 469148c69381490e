"""Films in a library whose store a test can inspect, and services that share it."""

import json
import re
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import grpc
from refilm.v1 import library_pb2 as pb
from refilm.v1 import library_pb2_grpc as pb_grpc

from service.library.films import Films
from service.library.uploads import Uploads, UploadSettings
from service.storage.objects import ObjectNotFoundError, ObjectStore
from tests.support.library_calls import LibraryClient
from tests.support.object_stores import LibraryStore
from tests.support.probing import probe_here
from tests.support.reconstruct import TIMEOUT_SECONDS, Answer
from tests.support.service_process import ServiceProcess, wait_for

LEASE_SECONDS = "1"
_RECORD = re.compile(r"films/[^/]+/renditions/[^/]+/[^/]+/(\d{6})\.json")


class LibraryFilms:
    """A store with films, and the services on it."""

    def __init__(self, folder: Path, kept: LibraryStore, triton: str) -> None:
        self._folder = folder
        self.kept = kept
        self._triton = triton
        self._stack = ExitStack()
        self._services = 0
        self.store: ObjectStore = kept.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.store.delete(info.key for info in self.store.list(""))

    def add(self, film: bytes, film_id: str = "film") -> str:
        """Add a film to the library; return its name."""
        uploads = Uploads(self.store, Films(self.store), film_bytes=2**30, probe=probe_here)
        upload = uploads.open(UploadSettings(film_id=film_id))
        upload.write(film)
        return f"films/{upload.finish().id}"

    def serve(self, **settings: str) -> ServiceProcess:
        """Start another service on the store; all share one Triton."""
        self._services += 1
        environment = {
            **self.kept.environment,
            "REFILM_TRITON_ADDRESS": self._triton,
            "REFILM_LEASE_SECONDS": LEASE_SECONDS,
            **settings,
        }
        service = ServiceProcess(self._folder / f"service-{self._services}", [], environment)
        self._stack.enter_context(service)
        service.wait_until_serving()
        return service

    def client(self, service: ServiceProcess) -> LibraryClient:
        """Return a caller of LibraryService."""
        return LibraryClient(service.channel)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of everything that is stored."""
        return [info.key for info in self.store.list(prefix)]

    def records(self, name: str) -> dict[int, dict[str, Any]]:
        """Return the records of a film's complete segments by number, of the newest attempts."""
        found: dict[int, dict[str, Any]] = {}
        for key in self.keys(f"{name}/renditions/"):
            match = _RECORD.fullmatch(key)
            if match is not None:
                try:
                    found[int(match[1])] = json.loads(self.store.get(key))
                except ObjectNotFoundError:
                    continue
        return found

    def segments(self, name: str) -> dict[str, bytes]:
        """Return the bytes of a film's complete segments by key."""
        keys = [str(record["segment"]["key"]) for record in self.records(name).values()]
        return {key: self.store.get(key) for key in keys}

    def wait_for_segments(self, name: str, count: int) -> None:
        """Wait until this many segments of a film are complete."""
        wait_for(lambda: len(self.records(name)) >= count, f"{count} whole segments")


class Watching:
    """A caller who watches a film of the library, on a thread of its own."""

    def __init__(
        self, service: ServiceProcess, name: str, *, paused_after: str = "", **settings: Any
    ) -> None:
        """Begin to watch; after a message of the kind `paused_after`, reading pauses."""
        self.answer = Answer()
        self._paused_after = paused_after
        self._paused = threading.Event()
        self._may_go_on = threading.Event()
        self._channel = service.connect()
        stub = pb_grpc.LibraryServiceStub(self._channel)
        request = pb.WatchReconstructionRequest(
            rendition=pb.WatchedRendition(film=name, **settings)
        )
        self.call = stub.WatchReconstruction(request, timeout=TIMEOUT_SECONDS)
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()
        if paused_after:
            assert self._paused.wait(TIMEOUT_SECONDS), f"no {paused_after} came"

    def go_on(self) -> None:
        """End the pause."""
        self._may_go_on.set()

    def _take(self) -> None:
        try:
            for response in self.call:
                if self.answer.take(response) == self._paused_after:
                    self._paused.set()
                    self._may_go_on.wait(TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            self.answer.error = error

    def wait_for(self, what: Callable[[Answer], object], described: str) -> None:
        """Wait until the responses so far are as described."""
        wait_for(lambda: what(self.answer), described)

    def leave(self) -> Answer:
        """Cancel the call."""
        self.call.cancel()
        return self.end()

    def end(self) -> Answer:
        """Wait for the call's end, and return all responses."""
        self._thread.join(TIMEOUT_SECONDS)
        assert not self._thread.is_alive(), "the call does not end"
        self._channel.close()
        return self.answer


def watch(service: ServiceProcess, name: str, **settings: Any) -> Answer:
    """Watch a film of the library to its end."""
    return Watching(service, name, **settings).end()
