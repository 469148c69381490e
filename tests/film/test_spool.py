"""The spool: bytes on their way in."""

import contextlib
import errno
import hashlib
import os
from pathlib import Path

import pytest

from film.errors import FilmLimitError, SpoolFullError
from film.spool import Spool, SpoolRoom


@pytest.fixture
def room(tmp_path: Path) -> SpoolRoom:
    return SpoolRoom(tmp_path, 1000)


def read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


def test_what_is_written_is_read(room: SpoolRoom) -> None:
    with Spool(room, 1000) as spool:
        spool.write(b"first ")
        descriptor = spool.open_descriptor()
        spool.write(bytearray(b"second"))
        assert not spool.finished
        spool.finish()
        assert spool.finished
        assert read(descriptor) == b"first second"
        assert spool.size == 12
        assert spool.digest() == "sha256:" + hashlib.sha256(b"first second").hexdigest()


def test_who_reads_cannot_write(room: SpoolRoom) -> None:
    with Spool(room, 1000) as spool:
        descriptor = spool.open_descriptor()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(descriptor, b"x")
        with pytest.raises(OSError, match="Invalid argument"):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def test_nothing_is_written_behind_the_end(room: SpoolRoom) -> None:
    with Spool(room, 1000) as spool:
        spool.finish()
        with pytest.raises(ValueError, match="after the end"):
            spool.write(b"more")
    with pytest.raises(ValueError, match="after the end"):
        spool.write(b"more")


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


def test_nothing_is_left_over(tmp_path: Path) -> None:
    room = SpoolRoom(tmp_path, 1000)
    with Spool(room, 1000) as spool:
        spool.write(b"abc")
        assert list(tmp_path.iterdir()) == []
        os.close(spool.open_descriptor())
        assert any(link.startswith(str(tmp_path)) for link in _open_files())
    assert [link for link in _open_files() if link.startswith(str(tmp_path))] == []


def _open_files() -> list[str]:
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(descriptor.readlink()))
    return links


def test_a_descriptor_outlives_its_spool_without_reading_another_film(room: SpoolRoom) -> None:
    with Spool(room, 1000) as spool:
        spool.write(b"abc")
        descriptor = spool.open_descriptor()
    with Spool(room, 1000) as other:
        other.write(b"xyz")
        assert read(descriptor) == b"abc"
