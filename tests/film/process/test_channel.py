"""Messages between the service and a child; what comes out of a child is held against bounds."""

import asyncio
import socket
import struct
import threading
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from film.process.channel import (
    Bounds,
    ChannelClosedError,
    ChannelError,
    ChildChannel,
    ServiceChannel,
)

BOUNDS = Bounds(json_bytes=100, payload_bytes=1000)


def header(kind: int = 1, json_bytes: int = 2, payload_bytes: int = 0, reserved: int = 0) -> bytes:
    return struct.pack("<4sHHIQ", b"RfM1", kind, reserved, json_bytes, payload_bytes)


async def received(data: bytes, bounds: Bounds = BOUNDS):
    ours, theirs = socket.socketpair()
    with closing(ServiceChannel(ours)) as channel, theirs:
        sender = threading.Thread(target=_send, args=(theirs, data))
        sender.start()
        try:
            return await channel.receive(bounds)
        finally:
            channel.close()
            sender.join()


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass


async def test_messages_arrive_whole_both_ways():
    ours, theirs = socket.socketpair()
    payload = bytes(range(256)) * 20_000
    bounds = Bounds(payload_bytes=len(payload))

    def answer() -> None:
        child = ChildChannel(theirs)
        message = child.receive(bounds)
        child.send(message.kind + 1, {"got": message.fields()}, message.payload[:7], b"!")

    answering = asyncio.get_running_loop().run_in_executor(None, answer)
    with closing(ServiceChannel(ours)) as channel:
        await channel.send(7, {"a": [1, "é"]}, payload[:100], memoryview(payload)[100:])
        message = await channel.receive(bounds)
        await answering
    assert (message.kind, message.fields()) == (8, {"got": {"a": [1, "é"]}})
    assert message.payload == payload[:7] + b"!"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        header(reserved=1) + b"{}",
        header(json_bytes=101) + b"{" * 101,
        header(payload_bytes=1001) + b"{}" + b"x" * 1001,
        header(json_bytes=2**32 - 1),
        header(payload_bytes=2**64 - 1),
    ],
)
async def test_what_is_no_message_or_too_large_is_refused(data: bytes):
    with pytest.raises(ChannelError) as refused:
        await received(data)
    assert not isinstance(refused.value, ChannelClosedError)


@pytest.mark.parametrize("data", [b"", header()[:10], header(), header(payload_bytes=5) + b"{}abc"])
async def test_an_end_within_a_message_is_an_end(data: bytes):
    with pytest.raises(ChannelClosedError):
        await received(data)


async def test_what_was_only_announced_takes_no_memory():
    """A terabyte would not fit."""
    with pytest.raises(ChannelClosedError):
        await received(header(payload_bytes=1 << 40) + b"{}", Bounds(payload_bytes=1 << 41))


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_message_within_bounds_or_an_error(data: bytes):
    async def run() -> None:
        try:
            message = await received(data)
        except ChannelError:
            return
        assert len(message.data) <= BOUNDS.json_bytes
        assert len(message.payload) <= BOUNDS.payload_bytes

    asyncio.run(run())


@given(
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=200),
)
def test_any_header_is_a_message_within_bounds_or_an_error(
    kind: int, json_bytes: int, payload_bytes: int, rest: bytes
):
    async def run() -> None:
        try:
            message = await received(header(kind, json_bytes, payload_bytes) + rest)
        except ChannelError:
            return
        assert (len(message.data), len(message.payload)) == (json_bytes, payload_bytes)

    asyncio.run(run())
