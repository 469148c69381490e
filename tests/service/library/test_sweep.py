"""The sweep: it finds what interrupted work left, all of it and nothing else."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.library import layout
from service.library.films import Film, Films
from service.library.latents import Latents
from service.library.sweep import Leftover, Sweep
from service.library.upload import PART_BYTES
from service.library.uploads import Uploads, UploadSettings
from service.storage.objects import ObjectStore
from tests.service.library.conftest import Library
from tests.support.library_calls import film_bytes, start_library
from tests.support.library_films import put_films, synthetic_film
from tests.support.object_stores import LibraryStore
from tests.support.probing import probe_here
from tests.support.service_process import ROOT, wait_for
from tests.support.stored_latents import add_latents, model, random_rows, write_parts

DAY = timedelta(days=1)
NO_AGE = timedelta(0)
PCA = model("a")


def keys(store: ObjectStore) -> list[str]:
    return [info.key for info in store.list("")]


def run(store: ObjectStore, older_than: timedelta, **options: Any) -> list[Leftover]:
    return list(Sweep(store, older_than=older_than, **options).run())


@pytest.fixture
def films(object_store: ObjectStore) -> Iterator[Films]:
    """A library of a whole film with latents, a finished upload, and one of each kind of rest."""
    films = Films(object_store)
    uploads = Uploads(object_store, films, film_bytes=2**30, probe=probe_here)
    whole = uploads.open(UploadSettings("done", "whole"))
    whole.write(film_bytes())
    film = whole.finish()
    add_latents(object_store, film, PCA, random_rows(60))
    yield films


def leave_rests(store: ObjectStore, films: Films) -> dict[str, list[str]]:
    """Leave what each kind of interrupted work leaves; return the keys."""
    before = set(keys(store))
    rests: dict[str, Any] = {}

    def left(kind: str) -> None:
        rests[kind] = sorted(set(keys(store)) - before - {k for r in rests.values() for k in r})

    upload = Uploads(store, films, film_bytes=2**30, probe=probe_here).open(
        UploadSettings("left", "left")
    )
    upload.write(film_bytes(PART_BYTES + 1))
    upload.keep()
    store.put(layout.upload_part("stray", 0, "0" * 64), b"a part of an upload that was dropped")
    left("upload")
    store.put(layout.film_source("never"), b"a film that never came to be")
    left("film")
    film = films.get("whole")
    write_parts(Latents(store), film, PCA, random_rows(60), attempt="attempt-2")
    write_parts(Latents(store), film, model("b"), random_rows(60), attempt="attempt-1")
    folder = layout.rendition_folder("whole", "c" * 64)
    store.put(f"{folder}000001-00/000001.m4s", b"segment")
    store.put(f"{folder}lease/000001", b"{}")
    left("attempt")
    store.put(layout.film_source("gone"), b"a film that was deleted")
    store.put(layout.catalog(PCA.digest, "gone"), b"")
    store.put(layout.pending("gone", "job"), b"{}")
    left("deletion")
    store.put(layout.deleted("gone"), b"{}")
    return rests


def test_a_dry_run_says_all_and_removes_nothing(object_store: ObjectStore, films: Films) -> None:
    rests = leave_rests(object_store, films)
    before = keys(object_store)
    found = run(object_store, NO_AGE, dry_run=True)
    assert keys(object_store) == before
    assert {leftover.kind for leftover in found} == set(rests)
    assert run(object_store, NO_AGE) == found


def test_what_is_left_goes_and_what_is_whole_stays(object_store: ObjectStore, films: Films) -> None:
    before = keys(object_store)
    film = films.get("whole")
    rests = leave_rests(object_store, films)
    found = run(object_store, NO_AGE)
    for kind in ("deletion", "film"):
        assert sum(one.objects for one in found if one.kind == kind) == len(rests[kind])
    # A finished upload is known for as long as it may be asked for, and then forgotten.
    kept = [key for key in before if not key.startswith("uploads/")]
    assert keys(object_store) == sorted([*kept, "deleted/gone.json"])
    assert films.get("whole") == film and Latents(object_store).find("whole", PCA.digest)
    assert run(object_store, NO_AGE) == []


def test_what_is_young_stays_but_for_rests_of_deleted_films(
    object_store: ObjectStore, films: Films
) -> None:
    rests = leave_rests(object_store, films)
    before = keys(object_store)
    found = run(object_store, DAY)
    assert [(one.kind, one.name) for one in found] == [("deletion", "films/gone")]
    assert keys(object_store) == [key for key in before if key not in rests["deletion"]]
    upload = Uploads(object_store, films, film_bytes=2**30, probe=probe_here).open(
        UploadSettings("left", "left"), PART_BYTES
    )
    upload.write(film_bytes(PART_BYTES + 1)[PART_BYTES:])
    assert upload.finish().id == "left"


def test_an_upload_that_was_whole_becomes_its_film(object_store: ObjectStore) -> None:
    films = Films(object_store)
    upload = Uploads(object_store, films, film_bytes=2**30, probe=probe_here).open(
        UploadSettings("cut", "cut")
    )
    upload.write(film_bytes())
    film = upload.finish()
    # As if the service had been killed right before its last step.
    source = b"".join(object_store.read(layout.film_source("cut")))
    digest = film.digest
    object_store.put(layout.upload_part("cut", 0, digest), source)
    object_store.delete([layout.film_facts("cut"), layout.film_source("cut")])
    run(object_store, NO_AGE)
    assert films.get("cut") == film
    assert b"".join(object_store.read(layout.film_source("cut"))) == film_bytes()
    assert not [key for key in keys(object_store) if key.startswith("uploads/")]


def test_an_attempt_with_a_held_lease_stays(folder_store: LibraryStore) -> None:
    store = folder_store.open()
    store.prepare()
    root = Path(folder_store.environment["REFILM_STORAGE_DIRECTORY"])
    put_films(store, [synthetic_film(1)])
    folders = [layout.rendition_folder("film-00001", digit * 64) for digit in "ab"]
    for folder in folders:
        for name in ("000001-00/000001.m4s", "000002-00/000001.m4s", "lease/000002"):
            store.put(folder + name, b"bytes")
            two_days = time.time() - 2 * DAY.total_seconds()
            os.utime(root / folder / name, (two_days, two_days))
    store.put(f"{folders[1]}lease/000002", b"a heartbeat")
    found = run(store, DAY)
    assert {one.name for one in found} == {f"films/film-00001/renditions/{'a' * 64}"}
    assert [info.key for info in store.list(folders[0])] == []
    assert len(list(store.list(folders[1]))) == 3


def test_a_manifest_that_cannot_be_read_protects_its_attempts(object_store: ObjectStore) -> None:
    put_films(object_store, [synthetic_film(1)])
    folder = layout.rendition_folder("film-00001", "a" * 64)
    object_store.put(f"{folder}manifest.json", b'{"version": 99}')
    object_store.put(f"{folder}000001-00/000001.m4s", b"bytes")
    before = keys(object_store)
    assert run(object_store, NO_AGE) == []
    assert keys(object_store) == before


# The operator's command.


def sweep(store: LibraryStore, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("REFILM_")}
    return subprocess.run(
        [sys.executable, "-m", "service", "sweep", *arguments],
        cwd=ROOT,
        env=inherited | store.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_says_what_it_would_do_and_does_it(library_store: LibraryStore) -> None:
    store = library_store.open()
    put_films(store, [synthetic_film(1)])
    store.put(layout.film_source("never"), bytes(1234))
    store.put(layout.upload_part("stray", 0, "0" * 64), bytes(10))

    young = sweep(library_store)
    assert (young.returncode, young.stdout) == (0, "nothing is left over\n")
    dry = sweep(library_store, "--dry-run", "--older-than", "0")
    assert dry.returncode == 0 and len(keys(store)) == 3
    *rows, first_total, second_total, last = dry.stdout.splitlines()
    assert [row.split() for row in rows] == [
        ["upload", "1", "objects", "10", "bytes", "uploads/stray"],
        ["film", "1", "objects", "1,234", "bytes", "films/never"],
    ]
    assert first_total.split() == ["total", "1", "objects", "1,234", "bytes", "1", "x", "film"]
    assert second_total.split() == ["total", "1", "objects", "10", "bytes", "1", "x", "upload"]
    assert last == "nothing was removed: this was a dry run"
    wet = sweep(library_store, "--older-than", "0")
    assert wet.stdout.splitlines() == dry.stdout.splitlines()[:-1]
    assert keys(store) == [layout.film_facts("film-00001")]


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    nowhere = LibraryStore({"REFILM_STORAGE_DIRECTORY": str(tmp_path / "missing")})
    away = sweep(nowhere)
    assert away.returncode == 1
    assert away.stderr.splitlines()[-1].startswith("the library's store does not answer")
    wrong = sweep(nowhere, "--older-than", "-1")
    assert wrong.returncode == 2 and "--older-than" in wrong.stderr
    assert sweep(LibraryStore({"REFILM_PORT": "x"})).returncode == 2


def test_a_service_ends_deletions_right_when_it_starts(library: Library, tmp_path: Path) -> None:
    film: Film = synthetic_film(9)
    put_films(library.store, [film])
    library.store.put(layout.deleted(film.id), b"{}")
    with start_library(tmp_path, library.kept):
        wait_for(lambda: not library.stored("films/"), "the deletion's end", 60)
    assert library.stored() == [layout.deleted(film.id)]
