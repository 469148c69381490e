"""Reads give exactly the bytes that must be there, or say what is damaged."""

import hashlib

import grpc
import pytest

from service.library.verified_reads import DamagedError, checked, exact_bytes, exact_pieces
from service.storage.folder import FolderStore

DATA = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    store = FolderStore(tmp_path_factory.mktemp("store") / "library")
    store.prepare()
    store.put("key", DATA)
    return store


@pytest.mark.parametrize(
    ("start", "size"), [(0, 0), (5, 0), (0, 1), (3, 2**20 + 1), (0, len(DATA)), (len(DATA) - 1, 1)]
)
def test_the_bytes_that_are_asked_for(store: FolderStore, start: int, size: int) -> None:
    assert exact_bytes(store, "key", start, size, film="a", what="it") == DATA[start:][:size]
    pieces = list(exact_pieces(store, "key", start, size, film="a", what="it"))
    assert all(0 < len(piece) <= 2**20 for piece in pieces)


def test_nothing_is_asked_for_nothing(store: FolderStore) -> None:
    assert exact_bytes(store, "missing", 0, 0, film="a", what="it") == b""


def test_damage_names_the_film_and_the_part_but_no_key(store: FolderStore) -> None:
    with pytest.raises(DamagedError, match="part 3 of its latents is missing") as caught:
        exact_bytes(store, "secret/key", 0, 1, film="a", what="part 3 of its latents")
    error = caught.value
    assert "films/a is damaged" in error.message and "secret" not in error.message
    assert (error.code, error.reason) == (grpc.StatusCode.DATA_LOSS, "STORED_DATA_DAMAGED")
    assert error.resource is not None and error.resource.name == "films/a"
    for start, size in ((0, len(DATA) + 1), (len(DATA), 1), (len(DATA) + 7, 1)):
        with pytest.raises(DamagedError, match="it is shorter than it was written"):
            exact_bytes(store, "key", start, size, film="a", what="it")


def test_a_digest_is_of_the_beginning_and_all_pieces() -> None:
    digest = hashlib.sha256(b"header" + b"one" + b"two").hexdigest()
    pieces = checked(iter([b"one", b"two"]), digest, beginning=b"header", film="a", what="it")
    assert list(pieces) == [b"one", b"two"]
    for wrong in ([b"one"], [b"one", b"Two"], []):
        found: list[bytes] = []
        with pytest.raises(DamagedError, match="it is not what was written"):
            found.extend(checked(iter(wrong), digest, beginning=b"header", film="a", what="it"))
