"""DeleteFilm: nothing of the film is left for anybody, on any replica; and its id is used up."""

import json
import threading
import uuid
from collections.abc import Iterator
from typing import cast

import grpc
import pytest
from refilm.v1 import library_pb2 as pb

from service.errors import NotFoundError
from service.library import layout
from service.library.deletion import Deletion
from service.library.films import Films
from service.storage.objects import ObjectStore
from tests.service.library.conftest import Library
from tests.support.cut_store import CutStore
from tests.support.library_calls import SERVICE, TIMEOUT, LibraryClient, film_bytes, start_library
from tests.support.library_films import put_films, synthetic_film
from tests.support.service_process import ServiceProcess
from tests.support.status import error_of, parse_error
from tests.support.stored_latents import add_latents, model, random_rows

PCA = model("a")


@pytest.fixture(scope="module")
def replica(
    running_library: Library, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """Another service on the same store."""
    with start_library(tmp_path_factory.mktemp("replica"), running_library.kept) as service:
        service.wait_until_serving(SERVICE)
        yield service


def test_a_deleted_film_is_gone_on_every_replica_at_once(
    library: Library, replica: ServiceProcess
) -> None:
    other = LibraryClient(replica.channel)
    library.client.upload(film_bytes(), film_id="gone", upload_id="gone")
    library.client.upload(film_bytes(), film_id="stays")
    film = Films(library.store).get("gone")
    add_latents(library.store, film, PCA, random_rows(300))
    library.store.put(layout.pending("gone", "job"), b"{}")
    latents = f"films/gone/latents/{'a' * 64}"
    assert other.download("films/gone") == film_bytes() and other.download(latents)

    library.client.delete("films/gone")
    for client in (other, library.client):
        assert [film.name for film in client.all()] == ["films/stays"]
        for call in (
            lambda client=client: client.get("films/gone"),
            lambda client=client: client.download("films/gone"),
            lambda client=client: client.download(latents),
            lambda client=client: client.delete("films/gone"),
            lambda client=client: client.stub.CreateDownloadUrls(
                pb.CreateDownloadUrlsRequest(name="films/gone")
            ),
            lambda client=client: client.upload(film_bytes(), upload_id="gone", film_id="gone"),
        ):
            failed = error_of(call)
            assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")
        got = client.stub.GetUpload(pb.GetUploadRequest(name="uploads/gone"), timeout=TIMEOUT)
        assert not got.upload.HasField("film")
    # Nothing but the note that it was, and how its upload ended.
    left = [key for key in library.stored() if "gone" in key]
    assert left == ["deleted/gone.json", "uploads/gone/end.json", "uploads/gone/upload.json"]
    assert library.stored("catalog/") == library.stored("pending/") == []


def test_the_same_request_succeeds_again(library: Library, replica: ServiceProcess) -> None:
    put_films(library.store, [synthetic_film(1)])
    request_id = str(uuid.uuid4())
    library.client.delete("films/film-00001", request_id)
    library.client.delete("films/film-00001", request_id)
    LibraryClient(replica.channel).delete("films/film-00001", request_id)
    failed = error_of(lambda: library.client.delete("films/film-00001", str(uuid.uuid4())))
    assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")
    assert request_id not in str(library.store.get("deleted/film-00001.json"))


def test_of_many_who_delete_nobody_is_reported_wrong(
    library: Library, replica: ServiceProcess
) -> None:
    put_films(library.store, [synthetic_film(2)])
    stubs = [library.client.stub, LibraryClient(replica.channel).stub] * 4
    calls = [
        stub.DeleteFilm.future(pb.DeleteFilmRequest(name="films/film-00002"), timeout=TIMEOUT)
        for stub in stubs
    ]
    codes = {call.code() for call in calls}
    assert grpc.StatusCode.OK in codes
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND}
    assert library.stored() == ["deleted/film-00002.json"]


def test_a_download_ends_when_its_film_is_deleted_elsewhere(
    library: Library, replica: ServiceProcess
) -> None:
    size = 36 * 2**20
    library.client.upload(film_bytes(size), film_id="going")
    responses = library.client.stub.DownloadFilm(
        pb.DownloadFilmRequest(name="films/going"), timeout=TIMEOUT
    )
    next(responses)
    LibraryClient(replica.channel).delete("films/going")
    # A caller who takes what comes little by little gets what was on its way, and no more.
    pause = threading.Event()
    taken = 0
    with pytest.raises(grpc.RpcError) as caught:
        for response in responses:
            taken += len(response.chunk)
            pause.wait(0.1)
    failed = parse_error(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")
    assert taken < size


def test_damaged_bytes_are_reported(library: Library) -> None:
    library.client.upload(film_bytes(), film_id="cut-off")
    library.store.put(layout.film_source("cut-off"), film_bytes()[:1000])
    failed = error_of(lambda: library.client.download("films/cut-off"))
    assert (failed.code, failed.reason) == (grpc.StatusCode.DATA_LOSS, "STORED_DATA_DAMAGED")


@pytest.mark.parametrize("step", range(6))
def test_a_deletion_that_was_cut_is_ended_by_whoever_comes(
    object_store: ObjectStore, step: int
) -> None:
    films = Films(object_store)
    film = synthetic_film(3)
    films.add(film)
    object_store.put(layout.film_source(film.id), b"bytes")
    add_latents(object_store, film, PCA, random_rows(300))
    cut = CutStore(object_store, step)
    with pytest.raises(ConnectionError):
        Deletion(cast(ObjectStore, cut), films).delete(film.id, "request")
    # Whole, or not there: and gone for good once somebody asks again.
    if films.find(film.id) is not None:
        assert object_store.get(layout.film_source(film.id)) == b"bytes"
    Deletion(object_store, films).delete(film.id, "request")
    assert [info.key for info in object_store.list("")] == [layout.deleted(film.id)]
    with pytest.raises(NotFoundError):
        Deletion(object_store, films).delete(film.id)
    with pytest.raises(NotFoundError):
        Deletion(object_store, films).delete(film.id, "another")


def test_listeners_hear_of_it_once(object_store: ObjectStore) -> None:
    films, film = Films(object_store), synthetic_film(4)
    films.add(film)
    heard: list[tuple[str, str, bool]] = []
    deletion = Deletion(object_store, films)
    deletion.on_deleted(lambda id, uid: heard.append((id, uid, films.exists(id, uid))))
    deletion.delete(film.id, "request")
    deletion.delete(film.id, "request")
    assert heard == [(film.id, film.uid, False)]


def test_a_note_names_no_request(object_store: ObjectStore) -> None:
    films, film = Films(object_store), synthetic_film(5)
    films.add(film)
    Deletion(object_store, films).delete(film.id)
    note = json.loads(object_store.get(layout.deleted(film.id)))
    assert (note["uid"], note["request"]) == (film.uid, "")
