"""Services and S3 servers that are killed in the middle: nothing that was acknowledged is lost,
nothing half is visible, and the same request again ends whole.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import grpc
import pytest
from refilm.v1 import library_pb2 as pb

from service.library import layout
from service.library.films import Film, Films
from service.library.uploads import Uploads, UploadSettings
from service.storage.objects import ObjectStore
from tests.service.library.conftest import Library
from tests.support.kills import Kills, killing
from tests.support.library_calls import (
    CHUNK,
    PART,
    SERVICE,
    TIMEOUT,
    LibraryClient,
    digest_of,
    film_bytes,
    opening,
    start_library,
)
from tests.support.object_stores import new_bucket
from tests.support.probing import probe_here
from tests.support.s3_server import S3Server
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.status import parse_error
from tests.support.stored_latents import add_latents, model, random_rows

FILM = film_bytes(PART + 5 * CHUNK)
OBJECTS = 40


class Victims:
    """Services to be killed; the next one starts while the test looks at what the last has left."""

    def __init__(self, folder: Path, library: Library) -> None:
        self._folder = folder
        self._library = library
        self._started = 0
        self._next = self._start()

    def next(self) -> ServiceProcess:
        """Return one that serves."""
        victim, self._next = self._next, self._start()
        victim.wait_until_serving(SERVICE)
        return victim

    def stop(self) -> None:
        self._next.process.kill()
        self._next.process.wait()

    def _start(self) -> ServiceProcess:
        self._started += 1
        return start_library(self._folder / f"victim-{self._started}", self._library.kept)


@pytest.fixture
def victims(library: Library, tmp_path: Path) -> Iterator[Victims]:
    victims = Victims(tmp_path, library)
    yield victims
    victims.stop()


@killing
def test_a_service_killed_during_an_upload(library: Library, victims: Victims) -> None:
    kills = Kills("service, uploading")
    for chance in kills:
        victim = victims.next()
        name = uuid.uuid4().hex
        with killed(victim.process.kill, chance) as killer:
            acknowledged = send(LibraryClient(victim.channel), name, chance, killer)
        victim.stop()
        check_upload(library.client, library.store, name, acknowledged, kills)


@killing
def test_a_service_killed_during_a_deletion(library: Library, victims: Victims) -> None:
    kills = Kills("service, deleting")
    for chance in kills:
        victim = victims.next()
        name = kept_film(library.store)
        with killed(victim.process.kill, chance, most=0.1) as killer:
            acknowledged = delete(LibraryClient(victim.channel), name, killer)
        victim.stop()
        check_deletion(library.client, library.store, name, acknowledged, kills)


@pytest.fixture(scope="module")
def fragile_library(
    own_s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    """A library on an S3 server that is killed."""
    kept = new_bucket(own_s3_server)
    with start_library(tmp_path_factory.mktemp("fragile"), kept) as service:
        service.wait_until_serving(SERVICE)
        yield Library(service, kept, kept.open(), LibraryClient(service.channel))


@killing
def test_an_s3_server_killed_during_an_upload(
    fragile_library: Library, own_s3_server: S3Server
) -> None:
    library, kills = fragile_library, Kills("S3 server, uploading")
    for chance in kills:
        name = uuid.uuid4().hex
        with killed(own_s3_server.kill_gateway, chance) as killer:
            acknowledged = send(library.client, name, chance, killer)
        own_s3_server.restart()
        library.service.wait_until_serving(SERVICE)
        check_upload(library.client, library.store, name, acknowledged, kills)


@killing
def test_an_s3_server_killed_during_a_deletion(
    fragile_library: Library, own_s3_server: S3Server
) -> None:
    library, kills = fragile_library, Kills("S3 server, deleting")
    for chance in kills:
        name = kept_film(library.store)
        with killed(own_s3_server.kill_gateway, chance, most=0.1) as killer:
            acknowledged = delete(library.client, name, killer)
        own_s3_server.restart()
        library.service.wait_until_serving(SERVICE)
        check_deletion(library.client, library.store, name, acknowledged, kills)


class Killer:
    """Kills a short while after it is told to."""

    def __init__(self, kill: Callable[[], None], chance: Random, most: float) -> None:
        self._told = threading.Event()
        delay = chance.uniform(0, most)

        def wait() -> None:
            self._told.wait()
            threading.Event().wait(delay)
            kill()

        self._thread = threading.Thread(target=wait)
        self._thread.start()

    def tell(self) -> None:
        self._told.set()

    def wait(self) -> None:
        self._told.set()
        self._thread.join()


@contextmanager
def killed(kill: Callable[[], None], chance: Random, most: float = 0.4) -> Iterator[Killer]:
    """Kill at some time after `Killer.tell`, and before the block is left."""
    killer = Killer(kill, chance, most)
    try:
        yield killer
    finally:
        killer.wait()


def send(client: LibraryClient, name: str, chance: Random, killer: Killer) -> int:
    """Upload a film; return how many bytes of it were acknowledged, all if it is whole."""
    chunks = [FILM[start : start + CHUNK] for start in range(0, len(FILM), CHUNK)]
    told_at = chance.randrange(len(chunks) + 3)

    def messages() -> Iterator[pb.UploadFilmRequest]:
        yield opening(upload_id=name, film_id=name, digest=digest_of(FILM))
        for number, chunk in enumerate(chunks):
            if number == told_at:
                killer.tell()
            yield pb.UploadFilmRequest(chunk=chunk)
        killer.tell()

    call = client.stub.UploadFilm.future(messages(), timeout=TIMEOUT)
    acknowledged = 0
    while not call.done():
        try:
            acknowledged = max(acknowledged, client.committed(name))
        except (grpc.RpcError, AssertionError):
            break
    try:
        call.result(TIMEOUT)
        return len(FILM)
    except grpc.RpcError as error:
        assert_away(error)
        return acknowledged


def check_upload(
    client: LibraryClient, store: ObjectStore, name: str, acknowledged: int, kills: Kills
) -> None:
    """What was acknowledged is there; the film is whole or not to be seen; the rest can be sent."""
    committed = client.committed(name)
    assert committed >= acknowledged
    visible = [film.name for film in client.all(filter=f"film_id = {name}")]
    if visible:
        assert client.download(visible[0]) == FILM
    kills.saw(f"left {'a film' if visible else f'{committed // PART} parts'}")
    film = client.go_on(FILM, upload_id=name, film_id=name, digest=digest_of(FILM))
    assert (film.name, film.digest) == (f"films/{name}", digest_of(FILM))
    assert client.download(film.name) == FILM
    assert [info.key for info in store.list(f"uploads/{name}/")] == [
        f"uploads/{name}/end.json",
        f"uploads/{name}/upload.json",
    ]


def kept_film(store: ObjectStore) -> str:
    """Keep a film with much that was made of it; return its id."""
    name = uuid.uuid4().hex
    film = film_of(store, name)
    add_latents(store, film, model("a"), random_rows(60))
    for number in range(OBJECTS):
        store.put(f"{layout.rendition_folder(name, 'r')}attempt/{number:06d}.m4s", b"segment")
    return name


def film_of(store: ObjectStore, name: str) -> Film:
    uploads = Uploads(store, Films(store), film_bytes=2**30, probe=probe_here)
    upload = uploads.open(UploadSettings(film_id=name))
    upload.write(film_bytes())
    return upload.finish()


def delete(client: LibraryClient, name: str, killer: Killer) -> bool:
    """Delete a film; return whether that was acknowledged."""
    request = pb.DeleteFilmRequest(name=f"films/{name}", request_id=name)
    call = client.stub.DeleteFilm.future(request, timeout=TIMEOUT)
    killer.tell()
    try:
        call.result(TIMEOUT)
        return True
    except grpc.RpcError as error:
        assert_away(error)
        return False


def check_deletion(
    client: LibraryClient, store: ObjectStore, name: str, acknowledged: bool, kills: Kills
) -> None:
    """The film is wholly there or gone; the same request again leaves nothing but a note."""
    visible = bool(client.all(filter=f"film_id = {name}"))
    assert not (visible and acknowledged)
    if visible:
        film = client.get(f"films/{name}")
        assert client.download(film.name) == film_bytes() and len(film.latents) == 1
        assert len(client.download(film.latents[0].name)) > 60 * 200 * 4
    left = sum(1 for _ in store.list(layout.film_folder(name)))
    kills.saw("left the film" if visible else "left a part" if left else "left nothing")
    client.delete(f"films/{name}", name)
    assert not client.all(filter=f"film_id = {name}")
    wait_for(lambda: not any(name in info.key for info in stored(store)), "the rest's end")


def stored(store: ObjectStore) -> Iterator:
    for prefix in (layout.FILMS, layout.CATALOG, layout.PENDING):
        yield from store.list(prefix)


def assert_away(error: grpc.RpcError) -> None:
    """The call failed because somebody was killed, and says so."""
    failed = parse_error(error)
    assert failed.code == grpc.StatusCode.UNAVAILABLE, failed
