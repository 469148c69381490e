"""Objects joined in order, read from any offset."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.library.film_source import Piece, SourceBytes
from service.storage.folder import FolderStore

SIZES = (1, 0, 7, 20_000, 3, 45_005, 11)
WHOLE = b"".join(number.to_bytes(4, "big") for number in range((sum(SIZES) + 3) // 4))[: sum(SIZES)]


class MissingError(Exception):
    """What the tests have raised for missing bytes."""


class GivenUpError(Exception):
    """What the tests have raised where reading shall end."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    store = FolderStore(tmp_path_factory.mktemp("store") / "library")
    store.prepare()
    start = 0
    for number, size in enumerate(SIZES):
        store.put(f"parts/{number}", WHOLE[start : start + size])
        start += size
    return store


def joined(store: FolderStore) -> SourceBytes:
    pieces = [Piece(f"parts/{number}", size) for number, size in enumerate(SIZES)]
    return SourceBytes(store, pieces, MissingError)


places = st.integers(0, len(WHOLE) + 3) | st.sampled_from(
    [sum(SIZES[:count]) + by for count in range(1, len(SIZES)) for by in (-1, 0, 1)]
)


@settings(max_examples=100, deadline=None)
@given(offset=places.filter(lambda place: place >= 0), length=places)
def test_it_reads_as_if_it_were_one(store: FolderStore, offset: int, length: int) -> None:
    assert joined(store).read(offset, length) == WHOLE[offset : offset + max(0, length)]


def test_all_of_it_is_all_parts_in_order(store: FolderStore) -> None:
    assert joined(store).size == len(WHOLE)
    assert joined(store).read(0, len(WHOLE)) == WHOLE


@pytest.mark.parametrize("size", [None, 0, 5])
def test_missing_bytes_are_reported(tmp_path: Path, size: int | None) -> None:
    store = FolderStore(tmp_path / "library")
    store.prepare()
    store.put("a", b"12345")
    if size is not None:
        store.put("b", b"123456"[:size])
    source = SourceBytes(store, [Piece("a", 5), Piece("b", 6)], MissingError)
    assert source.read(0, 5) == b"12345"
    with pytest.raises(MissingError):
        source.read(4, 7)


def test_reading_ends_where_it_shall(store: FolderStore) -> None:
    def check() -> None:
        raise GivenUpError

    source = SourceBytes(store, [Piece("parts/3", SIZES[3])], MissingError, check)
    with pytest.raises(GivenUpError):
        source.read(0, 1)
