"""A film's bytes as its process reads them: like any file, however the service has them."""

import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from film.process.channel import ChannelClosedError, ChildChannel, Message
from film.process.incoming import GrowingFile, IncomingFile, StoredFile
from film.process.protocol import BLOCK_BYTES, Kind

WHOLE = b"".join(number.to_bytes(4, "big") for number in range(6 * BLOCK_BYTES // 4)) + b"end"

places = st.integers(0, len(WHOLE) + 3) | st.sampled_from(
    [block * BLOCK_BYTES + by for block in (1, 3, 6) for by in (-1, 0, 1)]
)


@contextmanager
def asked(answer: Callable[[Message], tuple[dict[str, object], bytes]]) -> Iterator[ChildChannel]:
    """A channel whose other end answers each question."""
    ours, theirs = socket.socketpair()
    service = ChildChannel(theirs)

    def serve() -> None:
        while True:
            try:
                message = service.receive()
            except ChannelClosedError:
                return
            fields, payload = answer(message)
            service.send(Kind.DONE, fields, payload)

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield ChildChannel(ours)
    finally:
        ours.close()
        serving.join()
        theirs.close()


@contextmanager
def stored(asked_for: list[tuple[int, int]] | None = None) -> Iterator[StoredFile]:
    def answer(message: Message) -> tuple[dict[str, object], bytes]:
        assert message.kind == Kind.READ_BLOCK
        offset, length = message.fields()["offset"], message.fields()["length"]
        if asked_for is not None:
            asked_for.append((offset, length))
        return {}, WHOLE[offset : offset + length]

    with asked(answer) as channel:
        yield StoredFile(channel, len(WHOLE))


@contextmanager
def growing(path: Path, arrived: list[int]) -> Iterator[GrowingFile]:
    """A file of which so many bytes are there at each question; all with the last."""

    def answer(message: Message) -> tuple[dict[str, object], bytes]:
        assert message.kind == Kind.WAIT_FOR_BYTES
        size = arrived.pop(0)
        while message.fields()["position"] >= size and arrived:
            size = arrived.pop(0)
        return {"size": size, "finished": not arrived}, b""

    descriptor = os.open(path, os.O_RDONLY)
    try:
        with asked(answer) as channel:
            yield GrowingFile(channel, descriptor)
    finally:
        os.close(descriptor)


def reads_like_any_file(file: IncomingFile, moves: list[tuple[int, int]]) -> None:
    like = io.BytesIO(WHOLE)
    for place, size in moves:
        assert file.seek(place) == file.tell() == place
        assert file.seek(0, io.SEEK_CUR) == place
        assert file.seek(place - len(WHOLE), io.SEEK_END) == place
        like.seek(place)
        expected, read = like.read(size), b""
        while len(read) < size and (part := file.read(size - len(read))):
            read += part
        assert read == expected


@settings(max_examples=40, deadline=None)
@given(moves=st.lists(st.tuples(places, st.integers(0, 20)), max_size=8))
def test_stored_bytes_read_like_any_file(moves: list[tuple[int, int]]):
    with stored() as file:
        reads_like_any_file(file, moves)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spool") / "film"
    path.write_bytes(WHOLE)
    return path


@settings(max_examples=40, deadline=None)
@given(moves=st.lists(st.tuples(places, st.integers(0, 20)), max_size=8))
def test_a_spool_reads_like_any_file(path: Path, moves: list[tuple[int, int]]):
    with growing(path, [len(WHOLE)]) as file:
        reads_like_any_file(file, moves)


def test_what_has_not_arrived_is_waited_for(path: Path):
    with growing(path, [10, 15, len(WHOLE)]) as file:
        assert file.read(100) == WHOLE[:10]
        assert file.read(100) == WHOLE[10:15]
        assert file.read(3) == WHOLE[15:18]
        assert file.seek(0, io.SEEK_END) == len(WHOLE)
        assert file.read(1) == b""
        assert file.waited > 0


def test_the_last_blocks_are_kept():
    blocks: list[tuple[int, int]] = []
    with stored(blocks) as file:
        for _ in range(3):
            for number in range(3):
                file.seek(number * BLOCK_BYTES)
                file.read(10)
        assert blocks == [(number * BLOCK_BYTES, BLOCK_BYTES) for number in range(3)]
        assert file.readall() == WHOLE[2 * BLOCK_BYTES + 10 :]


def test_it_cannot_be_moved_before_its_beginning():
    with stored() as file:
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 7)
