"""What every object store promises, held against a folder and a bucket on a real S3 server."""

import functools
import io
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from service.storage.objects import CHUNK_BYTES, ObjectNotFoundError, ObjectStore
from service.storage.s3 import store as s3
from tests.support.object_stores import LibraryStore

MIB = 2**20


@functools.cache
def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes of which no two stretches are alike by accident."""
    return b"".join(n.to_bytes(8, "big") for n in range(seed, seed + size // 8 + 1))[:size]


def keys(store: ObjectStore, prefix: str = "", after: str = "") -> list[str]:
    return [found.key for found in store.list(prefix, after=after)]


@pytest.mark.parametrize("data", [b"", b"x", pattern(3 * MIB)])
def test_what_is_put_comes_back(object_store: ObjectStore, data: bytes) -> None:
    object_store.put("films/a/source", data)
    assert object_store.get("films/a/source") == data
    assert b"".join(object_store.read("films/a/source")) == data
    info = object_store.info("films/a/source")
    assert (info.key, info.size) == ("films/a/source", len(data))
    assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_put_replaces(object_store: ObjectStore) -> None:
    object_store.put("lease", b"one, longer")
    object_store.put("lease", b"two")
    assert object_store.get("lease") == b"two"


@pytest.mark.parametrize("size", [0, 5, 5 * MIB, 33 * MIB])
def test_a_file_is_put_from_where_it_stands(object_store: ObjectStore, size: int) -> None:
    data = pattern(size)
    file = io.BytesIO(b"before" + data + b"after")
    file.seek(len(b"before"))
    object_store.put("source", file, size)
    assert object_store.get("source") == data
    assert file.read() == b"after"


def test_a_file_is_put_to_its_end(object_store: ObjectStore) -> None:
    object_store.put("source", io.BytesIO(pattern(17 * MIB)))
    assert object_store.get("source") == pattern(17 * MIB)


def test_a_large_file_takes_little_memory(object_store: ObjectStore) -> None:
    class Zeros(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            return bytes(size)

    tracemalloc.start()
    try:
        object_store.put("large", Zeros(), 200 * MIB)  # type: ignore[arg-type]
        total = sum(map(len, object_store.read("large")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 200 * MIB
    assert peak < 80 * MIB


def test_a_file_that_ends_too_early_leaves_nothing(object_store: ObjectStore) -> None:
    for size in (10, 40 * MIB):
        with pytest.raises(EOFError):
            object_store.put("source", io.BytesIO(pattern(size - 1)), size)
    assert keys(object_store) == []
    assert list(object_store.abandoned(timedelta(seconds=-60))) == []


def test_what_is_not_there_is_not_found(object_store: ObjectStore) -> None:
    object_store.put("films/a/film.json", b"{}")
    for key in ("films/b", "films/a", "films/a/film.json/x"):
        for ask in (
            lambda key: object_store.get(key),
            lambda key: object_store.info(key),
            lambda key: list(object_store.read(key, 1, 2)),
            lambda key: list(object_store.read(key, 1, 0)),
            lambda key: object_store.compose("to", [key]),
        ):
            with pytest.raises(ObjectNotFoundError) as error:
                ask(key)
            assert error.value.key == key
    assert keys(object_store) == ["films/a/film.json"]


@pytest.mark.parametrize(
    ("start", "size"),
    [
        (0, 1),
        (0, None),
        (1, None),
        (7, 0),
        (CHUNK_BYTES - 3, 6),
        (5 * MIB - 1, 2),
        (5 * MIB, MIB),
        (16 * MIB - 2, 9),
        (33 * MIB - 1, 1),
        (33 * MIB - 1, 100),
        (33 * MIB, 1),
        (40 * MIB, None),
    ],
)
def test_ranges(composed: ObjectStore, start: int, size: int | None) -> None:
    end = None if size is None else start + size
    parts = list(composed.read("film", start, size))
    assert b"".join(parts) == pattern(33 * MIB)[start:end]
    assert all(0 < len(part) <= CHUNK_BYTES for part in parts)


@pytest.fixture(scope="module", params=["folder", pytest.param("s3", marks=pytest.mark.process)])
def composed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ObjectStore:
    """A store with an object that was composed of a part of 5 MiB, one of 16 and one of 12."""
    from tests.support.object_stores import new_bucket

    if request.param == "folder":
        folder = tmp_path_factory.mktemp("composed")
        library = LibraryStore({"REFILM_STORAGE_DIRECTORY": str(folder)})
    else:
        library = new_bucket(request.getfixturevalue("s3_server"))
    store = library.open()
    store.prepare()
    film = io.BytesIO(pattern(33 * MIB))
    for key, size in {"parts/0": 5 * MIB, "parts/1": 16 * MIB, "parts/2": 12 * MIB}.items():
        store.put(key, film, size)
    store.compose("film", ["parts/0", "parts/1", "parts/2"])
    return store


def test_one_small_part_can_be_composed_and_parts_stay(object_store: ObjectStore) -> None:
    object_store.put("part", b"small")
    object_store.put("film", b"was there")
    object_store.compose("film", ["part"])
    assert object_store.get("film") == b"small"
    assert keys(object_store) == ["film", "part"]


def test_the_order_is_that_of_whole_keys(object_store: ObjectStore) -> None:
    names = ["a-b/c", "a/b", "a.b", "a0", "a~/x", "b/c/d", "b/c-d", "b/C", "b_/x", "A/a"]
    for name in names:
        object_store.put(name, b"")
    assert keys(object_store) == sorted(names)
    assert keys(object_store, "b/c") == ["b/c-d", "b/c/d"]
    assert keys(object_store, "", "a/b") == sorted(n for n in names if n > "a/b")
    assert list(object_store.folders("")) == ["A", "a-b", "a", "a~", "b", "b_"]
    assert list(object_store.folders("", after="a-b")) == ["a", "a~", "b", "b_"]
    assert list(object_store.folders("", after="a")) == ["a~", "b", "b_"]
    assert list(object_store.folders("b/")) == ["c"]
    assert list(object_store.folders("nothing/")) == []


def test_lists_go_on_beyond_a_page(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_PAGE", 37)
    names = sorted(f"films/{n:x}/{half}" for n in range(120) for half in ("film.json", "source"))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: object_store.put(name, b""), names))
    assert keys(object_store, "films/") == names
    assert keys(object_store, "films/", names[110]) == names[111:]
    folders = [name.split("/")[1] for name in names[::2]]
    assert list(object_store.folders("films/")) == folders
    assert list(object_store.folders("films/", after=folders[10])) == folders[11:]
    object_store.delete(found.key for found in object_store.list("films/"))
    assert keys(object_store) == []
    assert list(object_store.folders("")) == []


def test_delete_passes_over_what_is_not_there(object_store: ObjectStore) -> None:
    object_store.put("films/a/film.json", b"{}")
    object_store.put("films/a-b", b"{}")
    object_store.delete(iter(["films/a/film.json", "films/a/source", "films/c", "x/y/z"]))
    object_store.delete([])
    assert keys(object_store) == ["films/a-b"]
    assert list(object_store.folders("films/")) == []


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a b", "ä", "a" * 256, "a/" * 450]
)
def test_a_key_that_is_none_is_refused(object_store: ObjectStore, key: str) -> None:
    for ask in (
        lambda: object_store.put(key, b""),
        lambda: object_store.create(key, b""),
        lambda: object_store.get(key),
        lambda: object_store.info(key),
        lambda: object_store.delete([key]),
        lambda: object_store.compose(key, ["a"]),
        lambda: object_store.compose("a", [key]),
    ):
        with pytest.raises(ValueError, match="not a key"):
            ask()


def test_create_writes_once(object_store: ObjectStore) -> None:
    assert object_store.create("films/a/film.json", b"first") is True
    assert object_store.create("films/a/film.json", b"second") is False
    assert object_store.get("films/a/film.json") == b"first"
    object_store.delete(["films/a/film.json"])
    assert object_store.create("films/a/film.json", b"third") is True


def test_of_racing_creators_one_wins(library_store: LibraryStore) -> None:
    stores = [library_store.open() for _ in range(4)]
    for race in range(10):
        barrier = threading.Barrier(16)

        def create(number: int, key: str = f"race/{race}", barrier: threading.Barrier = barrier):
            barrier.wait()
            # Half of them write the same.
            data = f"{number % 8}".encode() * 1000
            return data, stores[number % 4].create(key, data)

        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(create, range(16)))
        winners = [data for data, won in results if won]
        assert len(winners) == 1
        assert stores[0].get(f"race/{race}") == winners[0]


def test_readers_see_the_old_or_the_new_while_an_object_is_replaced(
    library_store: LibraryStore,
) -> None:
    store = library_store.open()
    versions = [bytes([n]) * (3 * CHUNK_BYTES // 2 + n) for n in range(20)]
    store.put("lease", versions[0])
    done = threading.Event()

    def replace() -> None:
        for version in versions[1:]:
            store.put("lease", version)
        done.set()

    def look() -> set[bytes]:
        seen = set()
        while not done.is_set():
            seen.add(store.get("lease"))
        return seen

    with ThreadPoolExecutor(3) as pool:
        looks = [pool.submit(look) for _ in range(2)]
        pool.submit(replace).result()
        assert set().union(*(look.result() for look in looks)) <= set(versions)
    assert store.get("lease") == versions[-1]


def test_deleting_a_folders_last_object_does_no_harm_to_who_writes_there(
    object_store: ObjectStore,
) -> None:
    def write_and_delete(number: int) -> None:
        for turn in range(20):
            key = f"uploads/u/parts/{number}-{turn}"
            object_store.put(key, b"x")
            assert object_store.get(key) == b"x"
            object_store.delete([key])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write_and_delete, range(6)))
    assert keys(object_store) == []
    assert list(object_store.folders("")) == []


def test_a_read_that_is_given_up_leaves_the_store_usable(object_store: ObjectStore) -> None:
    object_store.put("film", pattern(8 * MIB))
    for _ in range(40):
        pieces = object_store.read("film")
        next(pieces)
        pieces.close()
    assert object_store.get("film") == pattern(8 * MIB)
