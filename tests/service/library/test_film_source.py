"""Objects joined in order, read as one file."""

import io
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from film.errors import FilmCancelledError
from service.library.film_source import BLOCK_BYTES, Piece, SourceFile
from service.storage.folder import FolderStore

SIZES = (1, 0, 7, BLOCK_BYTES - 8, 3, 2 * BLOCK_BYTES + 5, 11)
WHOLE = b"".join(number.to_bytes(4, "big") for number in range((sum(SIZES) + 3) // 4))[: sum(SIZES)]


class MissingError(Exception):
    """What the tests have raised for missing bytes."""


class CountingStore(FolderStore):
    """Counts what is read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reads: list[tuple[str, int, int | None]] = []

    def read(
        self, key: str, start: int = 0, size: int | None = None
    ) -> Generator[bytes, None, None]:
        self.reads.append((key, start, size))
        return super().read(key, start, size)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CountingStore:
    store = CountingStore(tmp_path_factory.mktemp("store") / "library")
    store.prepare()
    start = 0
    for number, size in enumerate(SIZES):
        store.put(f"parts/{number}", WHOLE[start : start + size])
        start += size
    return store


def pieces() -> list[Piece]:
    return [Piece(f"parts/{number}", size) for number, size in enumerate(SIZES)]


def opened(store: FolderStore, cancelled: threading.Event | None = None) -> SourceFile:
    return SourceFile(store, pieces(), MissingError, cancelled)


def test_all_of_it_is_all_parts_in_order(store: CountingStore) -> None:
    with opened(store) as file:
        assert file.size == len(WHOLE)
        assert file.readable() and file.seekable()
        assert file.readall() == WHOLE
        assert file.read(1) == file.read() == b""


places = st.integers(0, len(WHOLE) + 3) | st.sampled_from(
    [edge + by for edge in (1, 8, BLOCK_BYTES, 3 * BLOCK_BYTES) for by in (-1, 0, 1)]
)


@settings(max_examples=60, deadline=None)
@given(moves=st.lists(st.tuples(places, st.integers(0, 20)), max_size=8))
def test_it_reads_like_any_file(store: CountingStore, moves: list[tuple[int, int]]) -> None:
    like = io.BytesIO(WHOLE)
    with opened(store) as file:
        for place, size in moves:
            assert file.seek(place) == file.tell() == place
            assert file.seek(0, io.SEEK_CUR) == place
            assert file.seek(place - len(WHOLE), io.SEEK_END) == file.tell() == place
            like.seek(place)
            expected = like.read(size)
            buffer = bytearray(size)
            read = b""
            while len(read) < size and (count := file.readinto(memoryview(buffer)[len(read) :])):
                read = bytes(buffer[: len(read) + count])
            assert read == expected


def test_it_cannot_be_moved_before_its_beginning(store: CountingStore) -> None:
    with opened(store) as file:
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 7)


def test_the_last_blocks_are_kept(store: CountingStore) -> None:
    with opened(store) as file:
        store.reads.clear()
        for _ in range(3):
            for block in range(3):
                file.seek(block * BLOCK_BYTES)
                file.read(10)
        # The first block lies in four objects, the second in three, the third in one.
        assert len(store.reads) == len({start for start in store.reads}) <= 8


@pytest.mark.parametrize("size", [None, 0, 5])
def test_missing_bytes_are_told(tmp_path: Path, size: int | None) -> None:
    store = FolderStore(tmp_path / "library")
    store.prepare()
    store.put("a", b"12345")
    if size is not None:
        store.put("b", b"123456"[:size])
    file = SourceFile(store, [Piece("a", 5), Piece("b", 6)], MissingError)
    with file, pytest.raises(MissingError):
        file.read(1)


def test_a_cancelled_file_is_read_no_more(store: CountingStore) -> None:
    for cancelled in (threading.Event(), None):
        with opened(store, cancelled) as file:
            assert file.read(3) == WHOLE[:3]
            if cancelled is not None:
                cancelled.set()
            else:
                file.cancel()
            for size in (0, 1, -1):
                with pytest.raises(FilmCancelledError):
                    file.read(size)
