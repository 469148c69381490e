"""Lists and ranges of a store, held against a dictionary for whatever keys and bytes there are."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.storage.folder import FolderStore
from service.storage.objects import ObjectStore
from tests.support.object_stores import LibraryStore

NAMES = st.text("aA0-_~.", min_size=1, max_size=4).filter(lambda name: name[0] != ".")
KEYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def without_conflicts(keys: list[str]) -> list[str]:
    """Leave out keys that are the folder of another."""
    return [key for key in keys if not any(other.startswith(f"{key}/") for other in keys)]


CONTENTS = st.lists(KEYS, max_size=12, unique=True).map(without_conflicts)


def check(store: ObjectStore, keys: list[str], prefix: str, after: str, below: str) -> None:
    for number, key in enumerate(keys):
        store.put(below + key, bytes(number))
    model = sorted(keys)
    found = list(store.list(below + prefix, after=below + after))
    wanted = [key for key in model if key.startswith(prefix) and key > after]
    assert [(f.key, f.size) for f in found] == [(below + key, keys.index(key)) for key in wanted]
    folders = dict.fromkeys(key.split("/")[0] for key in model if "/" in key)
    assert list(store.folders(below)) == list(folders)
    name = after.split("/")[0]
    if name:
        after_name = [folder for folder in folders if f"{folder}/" > f"{name}/"]
        assert list(store.folders(below, after=name)) == after_name
    store.delete(f"{below}{key}" for key in keys)
    assert list(store.list(below)) == []
    assert list(store.folders(below)) == []


@settings(max_examples=80, deadline=None)
@given(CONTENTS, st.one_of(st.just(""), KEYS), st.one_of(st.just(""), KEYS))
def test_a_folder_lists_like_a_dictionary(keys: list[str], prefix: str, after: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(Path(folder) / "library")
        store.prepare()
        check(store, keys, prefix, after, "")
        left = [path.name for path in (Path(folder) / "library").iterdir()]
        assert left == [".writing"]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(CONTENTS, st.one_of(st.just(""), KEYS), st.one_of(st.just(""), KEYS))
def test_a_bucket_lists_like_a_dictionary(
    bucket_store: LibraryStore, keys: list[str], prefix: str, after: str
) -> None:
    store = bucket_store.open()
    store.prepare()
    check(store, keys, prefix, after, "films/x/")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.binary(max_size=50), min_size=1, max_size=5),
    st.integers(0, 300),
    st.one_of(st.none(), st.integers(0, 300)),
)
def test_ranges_of_what_a_folder_composed(parts: list[bytes], start: int, size: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(Path(folder) / "library")
        store.prepare()
        for number, part in enumerate(parts):
            store.put(f"parts/{number}", part)
        store.compose("film", [f"parts/{number}" for number in range(len(parts))])
        film = b"".join(parts)
        end = None if size is None else start + size
        assert b"".join(store.read("film", start, size)) == film[start:end]
        assert store.info("film").size == len(film)
