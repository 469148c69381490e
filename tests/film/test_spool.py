"""The spool: bytes that are read while they still arrive."""

import contextlib
import errno
import gc
import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from film.errors import FilmCancelledError, FilmLimitError, SpoolFullError
from film.spool import Spool, SpoolRoom

WAIT = 60


@pytest.fixture
def room(tmp_path: Path) -> SpoolRoom:
    return SpoolRoom(tmp_path, 1000)


def test_what_is_written_is_read(room: SpoolRoom) -> None:
    with Spool(room, 1000) as spool:
        spool.write(b"first ")
        spool.write(bytearray(b"second"))
        spool.finish()
        with spool.open() as reader:
            assert reader.read() == b"first second"
            assert reader.read(5) == b""
        assert spool.size == 12
        assert spool.digest() == "sha256:" + hashlib.sha256(b"first second").hexdigest()


def test_a_reader_waits_for_bytes_that_have_not_arrived(room: SpoolRoom) -> None:
    with Spool(room, 1000) as spool, ThreadPoolExecutor() as pool:
        spool.write(b"abc")
        reader = spool.open()
        assert reader.read(100) == b"abc"
        waiting = pool.submit(reader.read, 100)
        spool.write(b"def")
        assert waiting.result(WAIT) == b"def"
        at_end = pool.submit(reader.read, 100)
        spool.finish()
        assert at_end.result(WAIT) == b""


def test_seeking_from_the_end_waits_for_the_end(room: SpoolRoom) -> None:
    with Spool(room, 1000) as spool, ThreadPoolExecutor() as pool:
        spool.write(b"abc")
        reader = spool.open()
        waiting = pool.submit(reader.seek, -2, io.SEEK_END)
        spool.write(b"def")
        spool.finish()
        assert waiting.result(WAIT) == 4
        assert reader.read() == b"ef"
        assert reader.seek(1) == 1
        assert reader.seek(2, io.SEEK_CUR) == 3
        assert reader.tell() == 3
        with pytest.raises(ValueError, match="negative"):
            reader.seek(-1)


def test_cancelling_wakes_every_reader(room: SpoolRoom) -> None:
    with Spool(room, 1000) as spool, ThreadPoolExecutor() as pool:
        spool.write(b"abc")
        started = threading.Barrier(3)

        def read_on() -> bytes:
            reader = spool.open()
            reader.read(3)
            started.wait(WAIT)
            return reader.read(3)

        def seek_end() -> int:
            reader = spool.open()
            started.wait(WAIT)
            return reader.seek(0, io.SEEK_END)

        waiting = [pool.submit(read_on), pool.submit(seek_end)]
        started.wait(WAIT)
        spool.cancel()
        for future in waiting:
            with pytest.raises(FilmCancelledError):
                future.result(WAIT)
        with pytest.raises(FilmCancelledError):
            spool.write(b"more")
        with pytest.raises(FilmCancelledError):
            spool.open()


def test_a_cancelled_spool_refuses_bytes_that_have_arrived_as_well(room: SpoolRoom) -> None:
    with Spool(room, 1000) as spool:
        spool.write(b"abc")
        spool.finish()
        reader = spool.open()
        assert reader.read(0) == b""
        spool.cancel()
        for count in (0, 1, -1):
            with pytest.raises(FilmCancelledError):
                reader.read(count)


def test_the_limit_of_one_film(room: SpoolRoom) -> None:
    with Spool(room, 10) as spool:
        spool.write(b"12345")
        with pytest.raises(FilmLimitError, match="larger than 10 bytes"):
            spool.write(b"678901")
        spool.write(b"67890")
        assert spool.size == 10


def test_the_limit_of_all_films_and_that_room_is_given_back(room: SpoolRoom) -> None:
    with Spool(room, 1000) as one, Spool(room, 1000) as two:
        one.write(bytes(600))
        with pytest.raises(SpoolFullError, match="1000 bytes together"):
            two.write(bytes(401))
        two.write(bytes(400))
        assert room.used == 1000
    assert room.used == 0
    with Spool(room, 1000) as three:
        three.write(bytes(1000))
    three.close()
    assert room.used == 0


def test_a_full_disk(room: SpoolRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def full(descriptor: int, data: bytes, position: int) -> int:
        if position >= 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, bytes(data)[:100], position)

    monkeypatch.setattr(os, "pwrite", full)
    with Spool(room, 1000) as spool:
        spool.write(bytes(60))
        with pytest.raises(SpoolFullError, match="disk"):
            spool.write(bytes(200))
        assert room.used == 60
        assert spool.size == 60


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    room = SpoolRoom(tmp_path, 1000)
    with Spool(room, 1000) as spool:
        spool.write(b"abc")
        assert list(tmp_path.iterdir()) == []
        spool.open()
        with spool.open() as reader:
            reader.close()
        assert any(link.startswith(str(tmp_path)) for link in _open_files())
    gc.collect()
    assert [link for link in _open_files() if link.startswith(str(tmp_path))] == []


def _open_files() -> list[str]:
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(descriptor.readlink()))
    return links


def test_a_reader_outlives_its_spool_without_reading_another_file(room: SpoolRoom) -> None:
    with Spool(room, 1000) as spool:
        spool.write(b"abc")
        reader = spool.open()
    with Spool(room, 1000) as other:
        other.write(b"xyz")
        with pytest.raises(FilmCancelledError):
            reader.read(3)


@settings(deadline=None, max_examples=50)
@given(
    parts=st.lists(st.binary(min_size=1, max_size=50), max_size=8),
    reads=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 100)), max_size=20),
)
def test_reads_like_a_file(parts: list[bytes], reads: list[tuple[int, int]]) -> None:
    whole = b"".join(parts)
    with Spool(SpoolRoom(None, 10_000), 10_000) as spool:
        for part in parts:
            spool.write(part)
        spool.finish()
        like = io.BytesIO(whole)
        with spool.open() as reader:
            for position, count in reads:
                reader.seek(position)
                like.seek(position)
                assert reader.read(count) == like.read(count)
        assert spool.digest() == "sha256:" + hashlib.sha256(whole).hexdigest()
