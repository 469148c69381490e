"""A store that dies: nothing acknowledged is lost, nothing half is seen, and it heals by itself."""

import hashlib
import io
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from refilm.v1 import library_pb2, library_pb2_grpc

from service.errors import OverloadedError, ServiceError, UnavailableError
from service.storage.objects import ObjectStore
from tests.support.object_stores import LibraryStore, new_bucket
from tests.support.s3_server import S3Server
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.status import error_of

MIB = 2**20
KILLS = int(os.environ.get("REFILM_TEST_KILLS", "5"))

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ON_STORE = ("refilm.v1.LibraryService", "refilm.v1.LatentsService")
NOT_ON_STORE = ("", "refilm.v1.AutoencoderService")


@pytest.fixture
def library(own_s3_server: S3Server) -> Iterator[LibraryStore]:
    own_s3_server.restart()
    yield new_bucket(own_s3_server)
    own_s3_server.restart()


@pytest.fixture
def store(library: LibraryStore) -> ObjectStore:
    store = library.open()
    store.prepare()
    return store


class Writers:
    """Threads that write objects of all sizes, and know what was acknowledged."""

    def __init__(self, store: ObjectStore, count: int) -> None:
        self._store = store
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(count)
        self.begun: dict[str, str] = {}
        self.kept: set[str] = set()
        self.created: dict[str, bool] = {}
        self._futures = [self._pool.submit(self._write, writer) for writer in range(count)]

    def stop(self) -> None:
        self._stopped.set()
        for future in self._futures:
            future.result()

    def _write(self, writer: int) -> None:
        turn = 0
        while not self._stopped.is_set():
            turn += 1
            key = f"films/{writer}-{turn}"
            data = os.urandom((1000, 3 * MIB, 17 * MIB)[turn % 3])
            self.begun[key] = hashlib.sha256(data).hexdigest()
            try:
                if turn % 3:
                    self._store.put(key, io.BytesIO(data))
                elif not self._store.create(key, data):
                    raise AssertionError("nobody else creates this")
            except ServiceError as error:
                assert error.reason == "STORE_UNAVAILABLE"
            else:
                self.kept.add(key)


def check_whole(store: ObjectStore, writers: Writers) -> None:
    seen = {found.key for found in store.list("films/")}
    assert writers.kept <= seen
    for key in seen:
        digest = hashlib.sha256()
        for piece in store.read(key):
            digest.update(piece)
        assert digest.hexdigest() == writers.begun[key]


def test_a_killed_gateway_loses_nothing_and_shows_nothing_half(
    own_s3_server: S3Server, store: ObjectStore
) -> None:
    writers = Writers(store, 3)
    try:
        for _ in range(KILLS):
            before = len(writers.kept)
            wait_for(lambda before=before: len(writers.kept) >= before + 3, "writes")
            own_s3_server.kill_gateway()
            own_s3_server.restart()
        before = len(writers.kept)
        wait_for(lambda: len(writers.kept) > before, "a write after the last kill")
    finally:
        writers.stop()
    check_whole(store, writers)


def test_a_server_killed_as_a_whole_loses_nothing_and_shows_nothing_half(
    own_s3_server: S3Server, store: ObjectStore
) -> None:
    writers = Writers(store, 3)
    try:
        wait_for(lambda: len(writers.kept) >= 10, "writes")
        own_s3_server.kill()
    finally:
        writers.stop()
    with pytest.raises(UnavailableError):
        store.check()
    own_s3_server.restart()
    check_whole(store, writers)
    left = list(store.abandoned(timedelta(seconds=-60)))
    store.delete_abandoned(left)
    assert list(store.abandoned(timedelta(seconds=-60))) == []


def test_a_dead_and_a_hanging_server_are_unavailable(
    own_s3_server: S3Server, store: ObjectStore
) -> None:
    store.put("films/a/film.json", b"{}")
    asks = (
        lambda: store.get("films/a/film.json"),
        lambda: store.info("films/a/film.json"),
        lambda: store.create("films/b/film.json", b"{}"),
        lambda: store.put("films/b/source", bytes(17 * MIB)),
        lambda: list(store.list("films/")),
        lambda: list(store.folders("films/")),
        lambda: store.delete(["films/a/film.json"]),
        lambda: store.compose("films/b/source", ["films/a/film.json"]),
        store.check,
        store.prepare,
    )

    def outcome(ask: object) -> UnavailableError:
        with pytest.raises(UnavailableError) as error:
            ask()  # type: ignore[operator]
        return error.value

    own_s3_server.kill_gateway()
    with ThreadPoolExecutor(len(asks)) as pool:
        errors = list(pool.map(outcome, asks))
    assert {error.reason for error in errors} == {"STORE_UNAVAILABLE"}
    assert all(error.retry_after for error in errors)
    assert not any("127.0.0.1" in error.message for error in errors)

    own_s3_server.restart()
    assert store.get("films/a/film.json") == b"{}"
    own_s3_server.pause()
    began = time.monotonic()
    try:
        assert outcome(lambda: store.get("films/a/film.json")).reason == "STORE_UNAVAILABLE"
    finally:
        own_s3_server.resume()
    # Bounded, generously: not the minutes after which a connection gives up by itself.
    assert time.monotonic() - began < 60
    assert store.get("films/a/film.json") == b"{}"


def test_a_full_server_is_full_and_nothing_half_is_left(
    own_s3_server: S3Server, store: ObjectStore
) -> None:
    store.put("films/a/source", bytes(5 * MIB))
    own_s3_server.limit(6 * MIB)
    try:
        for ask in (
            lambda: store.put("films/b/source", bytes(5 * MIB)),
            lambda: store.put("films/b/source", io.BytesIO(bytes(40 * MIB))),
            lambda: store.create("films/b/film.json", bytes(5 * MIB)),
            lambda: store.compose("films/b/source", ["films/a/source", "films/a/source"]),
        ):
            with pytest.raises(OverloadedError) as error:
                ask()
            assert error.value.reason == "STORE_FULL"
            assert error.value.retry_after
        assert [found.key for found in store.list("")] == ["films/a/source"]
        assert list(store.abandoned(timedelta(seconds=-60))) == []
    finally:
        own_s3_server.limit(None)
    store.put("films/b/source", bytes(5 * MIB))


def test_a_service_says_that_its_store_is_down_and_goes_on_when_it_is_back(
    own_s3_server: S3Server, library: LibraryStore, tmp_path: Path, model_repository: Path
) -> None:
    own_s3_server.kill_gateway()
    with ServiceProcess(tmp_path, [model_repository], library.environment) as service:
        service.wait_until_serving()
        films = library_pb2_grpc.LibraryServiceStub(service.channel)

        def list_films() -> object:
            return films.ListFilms(library_pb2.ListFilmsRequest(), timeout=60).films

        def statuses(names: tuple[str, ...]) -> set[int]:
            return {service.health(name) for name in names}

        def check_down() -> None:
            error = error_of(list_films)
            assert error.code is StatusCode.UNAVAILABLE
            assert error.reason == "STORE_UNAVAILABLE"
            assert error.retry_seconds
            wait_for(lambda: statuses(ON_STORE) == {NOT_SERVING}, "bad health")
            assert statuses(NOT_ON_STORE) == {SERVING}
            assert service.metric("refilm_store_up") == 0

        def check_up() -> None:
            wait_for(lambda: statuses(ON_STORE) == {SERVING}, "good health")
            assert not list_films()
            assert service.metric("refilm_store_up") == 1

        # It started without its store, and makes the bucket when the server is there.
        check_down()
        own_s3_server.restart()
        check_up()
        own_s3_server.kill_gateway()
        check_down()
        own_s3_server.restart()
        check_up()
        assert service.metric("refilm_store_errors_total", reason="STORE_UNAVAILABLE") > 0
        assert service.metric("refilm_store_retries_total") > 0
        assert service.metric("refilm_store_seconds_count", operation="check") > 0
