"""Latents in the store: what is read is what was written, wherever the edges of the parts lie."""

import io
import threading
import tracemalloc
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import NotFoundError
from service.library import layout
from service.library.films import Films
from service.library.latents import Latents, LatentsManifest, TimeOutOfRangeError
from service.library.latents_arrow import arrow_bytes
from service.library.verified_reads import DamagedError
from service.storage.objects import ObjectNotFoundError, ObjectStore
from tests.support.object_stores import LibraryStore, new_bucket
from tests.support.stored_latents import (
    add_latents,
    model,
    new_film,
    random_rows,
    store_film,
    write_parts,
)

PCA = model("a")
ROWS = random_rows(700, gaps=(1001, 1001, 500, 3000), origin=-777)
PART_ROWS = (240, 1, 37, 300)
TOLERANCE = Fraction(1, 1_000_000)

rows = st.integers(0, len(ROWS.pts))
times = st.fractions(min_value=0, max_value=ROWS.duration) | st.sampled_from(ROWS.seconds)


@pytest.fixture(scope="module", params=["folder", pytest.param("s3", marks=pytest.mark.process)])
def stored_rows(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Latents, LatentsManifest]]:
    if request.param == "folder":
        folder = tmp_path_factory.mktemp("stored_rows")
        library_store = LibraryStore({"REFILM_STORAGE_DIRECTORY": str(folder)})
    else:
        library_store = new_bucket(request.getfixturevalue("s3_server"))
    store = library_store.open()
    store.prepare()
    film = store_film(store, "read", PCA, ROWS, part_rows=PART_ROWS)
    manifest = Latents(store).find(film.id, PCA.digest)
    assert manifest is not None
    yield Latents(store), manifest
    store.delete(found.key for found in store.list(""))


@settings(max_examples=25, deadline=None)
@given(one=rows, other=rows)
def test_any_rows_are_those_written(stored_rows, one: int, other: int) -> None:
    latents, manifest = stored_rows
    start, stop = sorted((one, other))
    for read, expected in (
        (latents.latents, ROWS.latents),
        (latents.embeddings, ROWS.embeddings),
        (latents.pts, ROWS.pts),
        (latents.detail, ROWS.detail),
    ):
        found = read(manifest, start, stop)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected[start:stop])


@settings(max_examples=25, deadline=None)
@given(one=rows, other=rows, stride=st.integers(1, 400))
def test_strided_parts_are_a_slice(stored_rows, one: int, other: int, stride: int) -> None:
    latents, manifest = stored_rows
    start, stop = sorted((one, other))
    chunks = list(latents.parts(manifest, start, stop, stride=stride, embeddings=True))
    wanted = slice(start, stop, stride)
    empty = np.empty((0, 200), np.float32)
    assert [row for chunk in chunks for row in chunk.rows] == list(range(700))[wanted]
    assert [pts for chunk in chunks for pts in chunk.pts] == ROWS.pts[wanted].tolist()
    found = np.concatenate([empty, *(chunk.latents for chunk in chunks)])
    assert np.array_equal(found, ROWS.latents[wanted])
    found = np.concatenate([empty, *(chunk.embeddings for chunk in chunks)])
    assert np.array_equal(found, ROWS.embeddings[wanted])


def whole_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, ROWS.latents)
    return buffer.getvalue()


WHOLE_FILE = whole_file()
places = st.integers(0, 300) | st.integers(0, len(WHOLE_FILE) + 10)


@settings(max_examples=25, deadline=None)
@given(start=places, size=st.none() | st.integers(0, 300) | st.integers(0, len(WHOLE_FILE)))
def test_the_one_npy_file_is_what_numpy_saves(stored_rows, start: int, size: int | None) -> None:
    latents, manifest = stored_rows
    stop = None if size is None else start + size
    assert b"".join(latents.npy_bytes(manifest, start, size)) == WHOLE_FILE[start:stop]
    assert latents.npy_size(manifest) == len(WHOLE_FILE)


@settings(max_examples=25, deadline=None)
@given(time=times)
def test_at_a_time_the_frame_is_the_one_shown(stored_rows, time: Fraction) -> None:
    latents, manifest = stored_rows
    shown = bisect_right(ROWS.seconds, time + TOLERANCE) - 1
    assert latents.row_at(manifest, time) == shown


@settings(max_examples=25, deadline=None)
@given(one=st.none() | times, other=st.none() | times)
def test_a_stretch_has_the_frames_that_begin_in_it(stored_rows, one, other) -> None:
    latents, manifest = stored_rows
    start = 0 if one is None else bisect_left(ROWS.seconds, one - TOLERANCE)
    stop = 700 if other is None else bisect_left(ROWS.seconds, other - TOLERANCE)
    if other is not None and other >= ROWS.duration:
        stop = 700
    assert latents.rows_between(manifest, one, other) == (start, max(start, stop))


def test_a_time_rounded_to_the_microsecond_still_means_its_frame(stored_rows) -> None:
    latents, manifest = stored_rows
    for row in range(0, 700, 53):
        seconds = ROWS.seconds[row]
        for rounded in (seconds // TOLERANCE * TOLERANCE, -(-seconds // TOLERANCE) * TOLERANCE):
            assert latents.row_at(manifest, rounded) == row
            assert latents.rows_between(manifest, rounded, None)[0] == row


@pytest.mark.parametrize("beyond", [Fraction(-1, 100), ROWS.duration + Fraction(1, 100)])
def test_a_time_outside_of_the_film_is_refused_with_its_duration(stored_rows, beyond) -> None:
    latents, manifest = stored_rows
    with pytest.raises(TimeOutOfRangeError, match=r"from 0 to 40\.11875 s") as caught:
        latents.row_at(manifest, beyond)
    assert caught.value.reason == "TIME_OUT_OF_RANGE"
    assert float(caught.value.metadata["duration_seconds"]) == pytest.approx(float(ROWS.duration))
    assert latents.row_at(manifest, ROWS.duration) == 699


def test_the_index_has_a_row_at_or_right_after_each_second_and_the_last(stored_rows) -> None:
    latents, manifest = stored_rows
    index = latents.index_rows(manifest)
    first = {bisect_left(ROWS.seconds, second) for second in range(int(ROWS.duration) + 1)}
    expected = sorted((first - {700}) | {699})
    assert index.rows.tolist() == expected
    assert np.array_equal(index.embeddings, ROWS.embeddings[expected])
    assert np.array_equal(index.detail, ROWS.detail[expected])
    assert index.seconds.tolist() == [float(ROWS.seconds[row]) for row in expected]


def test_of_two_that_commit_one_wins_and_the_other_leaves_nothing(
    object_store: ObjectStore,
) -> None:
    film = new_film("raced")
    Films(object_store).add(film)
    both = [Latents(object_store), Latents(object_store)]
    manifests = [
        write_parts(latents, film, PCA, random_rows(50, seed), attempt=f"attempt-{seed}")
        for seed, latents in enumerate(both)
    ]
    winners: dict[int, LatentsManifest] = {}
    ready = threading.Barrier(2)

    def commit(number: int) -> None:
        ready.wait()
        winners[number] = both[number].commit(manifests[number])

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert winners[0] == winners[1]
    won = manifests.index(next(m for m in manifests if m.parts == winners[0].parts))
    for number in range(2):
        both[number].drop_attempt(film.id, PCA.digest, f"attempt-{number}")
    left = [info.key for info in object_store.list(layout.latents_folder(film.id, PCA.digest))]
    assert left and not any(f"/attempt-{1 - won}/" in key for key in left)
    found = Latents(object_store).find(film.id, PCA.digest)
    assert found is not None
    kept = Latents(object_store).latents(found, 0, 50)
    assert np.array_equal(kept, random_rows(50, won).latents)


def test_the_catalog_names_the_films_of_a_model(object_store: ObjectStore) -> None:
    other = model("b")
    for film_id in ("one", "three", "two"):
        store_film(object_store, film_id, PCA, random_rows(3))
    film = store_film(object_store, "both", PCA, random_rows(3))
    add_latents(object_store, film, other, random_rows(3))
    latents = Latents(object_store)
    assert list(latents.catalog(PCA.digest)) == ["both", "one", "three", "two"]
    assert list(latents.catalog(PCA.digest, after="one")) == ["three", "two"]
    assert list(latents.catalog(other.digest)) == ["both"]
    assert [found.model for found in latents.list("both")] == [PCA, other]


def test_a_missing_catalog_entry_is_put_back(object_store: ObjectStore) -> None:
    film = store_film(object_store, "forgotten", PCA, random_rows(3))
    object_store.delete([layout.catalog(PCA.digest, film.id)])
    assert list(Latents(object_store).catalog(PCA.digest)) == []
    assert Latents(object_store).find(film.id, PCA.digest) is not None
    assert list(Latents(object_store).catalog(PCA.digest)) == [film.id]


def test_a_deleted_film_does_not_come_back_into_the_catalog(object_store: ObjectStore) -> None:
    film = store_film(object_store, "gone", PCA, random_rows(3))
    object_store.delete([layout.catalog(PCA.digest, film.id), layout.film_facts(film.id)])
    Latents(object_store).find(film.id, PCA.digest)
    assert list(Latents(object_store).catalog(PCA.digest)) == []


def test_nothing_is_found_before_the_commit(object_store: ObjectStore) -> None:
    film = new_film("begun")
    Films(object_store).add(film)
    latents = Latents(object_store)
    write_parts(latents, film, PCA, random_rows(50))
    assert latents.find(film.id, PCA.digest) is None
    assert list(latents.list(film.id)) == []
    assert list(latents.catalog(PCA.digest)) == []


def read_all(latents: Latents, manifest: LatentsManifest) -> None:
    for _ in latents.parts(manifest, embeddings=True):
        pass
    latents.detail(manifest, 0, manifest.rows)


def damaged(data: bytes) -> dict[str, bytes | None]:
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    return {
        "is missing": None,
        "is shorter": data[:-10],
        "is shorter than": b"",
        "is not what was written": flipped,
    }


def test_damage_is_said_with_its_part_and_no_key(object_store: ObjectStore) -> None:
    film = store_film(object_store, "damaged", PCA, random_rows(50), part_rows=(20,))
    latents = Latents(object_store)
    manifest = latents.find(film.id, PCA.digest)
    assert manifest is not None
    read_all(latents, manifest)
    for suffix in (".npy", ".pts.npy", ".embeddings.npy", ".detail.npy"):
        key = manifest.parts[1].key.replace(".npy", suffix)
        whole = object_store.get(key)
        for said, data in damaged(whole).items():
            if data is None:
                object_store.delete([key])
            else:
                object_store.put(key, data)
            with pytest.raises(DamagedError, match=f"films/damaged .* part 2 .* {said}") as caught:
                read_all(latents, manifest)
            if suffix == ".npy":
                with pytest.raises(DamagedError, match=said):
                    list(latents.npy_bytes(manifest))
            assert "/latents/" not in caught.value.message and "a" * 64 not in caught.value.message
        object_store.put(key, whole)
    read_all(latents, manifest)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"version": 2}', b"[]", b"\xff"])
def test_a_damaged_manifest_is_said(object_store: ObjectStore, data: bytes) -> None:
    film = store_film(object_store, "damaged", PCA, random_rows(5))
    object_store.put(f"{layout.latents_folder(film.id, PCA.digest)}manifest.json", data)
    with pytest.raises(DamagedError, match="films/damaged"):
        Latents(object_store).find(film.id, PCA.digest)


def test_a_commit_for_a_film_that_is_deleted_meanwhile_says_so(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = new_film("raced")
    Films(object_store).add(film)
    latents = Latents(object_store)
    manifest = write_parts(latents, film, PCA, random_rows(5))
    create = object_store.create

    def create_and_lose(key: str, data: bytes) -> bool:
        created = create(key, data)
        object_store.delete([info.key for info in object_store.list(layout.film_folder(film.id))])
        return created

    monkeypatch.setattr(object_store, "create", create_and_lose)
    with pytest.raises(NotFoundError, match="films/raced was deleted"):
        latents.commit(manifest)
    with pytest.raises(ObjectNotFoundError):
        object_store.info(layout.catalog(PCA.digest, film.id))


@pytest.mark.parametrize("export", ["npy", "arrow", "rows"])
def test_reading_all_of_a_film_needs_memory_for_a_part(folder_store, export: str) -> None:
    store = folder_store.open()
    store.prepare()
    count = 10_000
    film = store_film(store, "long", PCA, random_rows(count), part_rows=(500,))
    latents = Latents(store)
    manifest = latents.find(film.id, PCA.digest)
    assert manifest is not None

    def read() -> int:
        if export == "npy":
            return sum(map(len, latents.npy_bytes(manifest)))
        if export == "arrow":
            return sum(map(len, arrow_bytes(latents, manifest)))
        return sum(chunk.latents.nbytes for chunk in latents.parts(manifest, embeddings=True))

    read()
    allocated = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        assert read() >= count * 800
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A part: 400 kB of latents, and half or all of it again on its way to the caller.
    assert peak < 4_000_000
    assert pa.total_allocated_bytes() - allocated < 1_000_000
