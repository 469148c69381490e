"""An upload that is cut between any two of its changes to the store, and gone on with."""

import contextlib
from datetime import timedelta
from typing import Any

import pytest

from service.errors import ClientSideError
from service.library import layout
from service.library.films import Film, Films
from service.library.sweep import Sweep
from service.library.upload_errors import UploadCancelledError
from service.library.uploads import Uploads, UploadSettings
from service.storage.objects import ObjectStore
from tests.support.cut_store import CutStore
from tests.support.library_calls import film_bytes
from tests.support.probing import probe_here

FILM = film_bytes()
SETTINGS = UploadSettings("cut", "cut", "Cut", len(FILM))
MANY = 1000


def uploads(store: Any) -> Uploads:
    return Uploads(store, Films(store), film_bytes=2**30, probe=probe_here)


def upload(store: Any, data: bytes = FILM) -> Film:
    begun = uploads(store).open(SETTINGS)
    begun.write(data)
    return begun.finish()


def steps_of(store: ObjectStore, data: bytes = FILM) -> int:
    """Return how many changes to the store an upload makes; the store is empty again after it."""
    cut = CutStore(store, MANY)
    with contextlib.suppress(ClientSideError):
        upload(cut, data)
    store.delete(info.key for info in store.list(""))
    return MANY - cut.left


def test_a_cut_anywhere_leaves_nothing_half(object_store: ObjectStore) -> None:
    steps = steps_of(object_store)
    assert steps > 6
    for step in range(steps):
        with pytest.raises(ConnectionError):
            upload(CutStore(object_store, step))
        found = Films(object_store).find("cut")
        if found is not None:
            assert b"".join(object_store.read(layout.film_source("cut"))) == FILM
        film = upload(object_store)
        assert found in (None, film)
        assert Films(object_store).get("cut") == film
        assert b"".join(object_store.read(layout.film_source("cut"))) == FILM
        assert [info.key for info in object_store.list("uploads/")] == [
            "uploads/cut/end.json",
            "uploads/cut/upload.json",
        ]
        object_store.delete(info.key for info in object_store.list(""))


def test_a_refusal_that_was_cut_anywhere_leaves_nothing(object_store: ObjectStore) -> None:
    refused = b"PK\x03\x04" + bytes(600)
    for step in range(steps_of(object_store, refused)):
        with pytest.raises(ConnectionError):
            upload(CutStore(object_store, step), refused)
        if step % 2:  # Whoever sends it again removes it,
            with pytest.raises(ClientSideError):
                upload(object_store, refused)
        else:  # and so does the sweep.
            list(Sweep(object_store, older_than=timedelta(0)).run())
        assert list(object_store.list("")) == []


def test_a_part_may_be_put_again_when_the_store_is_back(object_store: ObjectStore) -> None:
    film = film_bytes(9 * 2**20)
    away = CutStore(object_store, 2)  # the upload's record, and the claim of the film's id
    begun = uploads(away).open(UploadSettings("again"))
    with pytest.raises(ConnectionError):
        begun.write(film)
    away.left = MANY
    begun.write(b"")
    made = begun.finish()
    assert b"".join(object_store.read(layout.film_source(made.id))) == film


def test_a_cancelled_upload_ends_wherever_it_is(object_store: ObjectStore) -> None:
    begun = uploads(object_store).open(SETTINGS)
    begun.write(FILM)
    begun.cancel()
    for call in (begun.finish, lambda: begun.write(b"more")):
        with pytest.raises(UploadCancelledError):
            call()
    assert Films(object_store).find("cut") is None
    assert upload(object_store).digest
