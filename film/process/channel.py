"""Messages over a socket between the service and a child: a fixed header, JSON, and raw bytes.

The service trusts nothing from a child: lengths are checked against bounds before allocating,
memory grows only with received bytes, and nothing is unpickled. The receiver validates the JSON.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_HEADER = struct.Struct("<4sHHIQ")
_MAGIC = b"RfM1"
_PIECE_BYTES = 1 << 20
"""Bytes read at a time; bytes that were only announced take no memory."""

Buffer = bytes | bytearray | memoryview


class ChannelError(Exception):
    """The other end violated the protocol, or is gone."""


class ChannelClosedError(ChannelError):
    """The other end is gone."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a message may be."""

    json_bytes: int = 1 << 20
    payload_bytes: int = 0


DEFAULT_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Message:
    """A received message."""

    kind: int
    """Its type, from 0 to 65535."""
    data: bytes
    """Its JSON, as received."""
    payload: bytearray
    """The raw bytes after the JSON."""

    def fields(self) -> dict[str, Any]:
        """Return the JSON, an object, unchecked: only for messages from the service."""
        fields: dict[str, Any] = json.loads(self.data)
        return fields


def _packed(kind: int, fields: dict[str, Any], payload: Sequence[Buffer]) -> list[Buffer]:
    data = json.dumps(fields, separators=(",", ":")).encode()
    parts = [part for part in payload if len(part)]
    size = sum(memoryview(part).nbytes for part in parts)
    return [_HEADER.pack(_MAGIC, kind, 0, len(data), size) + data, *parts]


def _sizes(header: Buffer, bounds: Bounds) -> tuple[int, int, int]:
    """Return a message's kind and the sizes of its two parts; raises ChannelError."""
    magic, kind, reserved, json_bytes, payload_bytes = _HEADER.unpack(header)
    if magic != _MAGIC or reserved:
        raise ChannelError("a message begins with something else than a header")
    if json_bytes > bounds.json_bytes or payload_bytes > bounds.payload_bytes:
        raise ChannelError(
            f"a message of {json_bytes} + {payload_bytes} bytes; at most "
            f"{bounds.json_bytes} + {bounds.payload_bytes} are taken"
        )
    return kind, json_bytes, payload_bytes


class ChildChannel:
    """The child's end; blocking."""

    def __init__(self, sock: socket.socket) -> None:
        """Take ownership of a connected stream socket."""
        sock.setblocking(True)
        self._socket = sock

    def send(self, kind: int, fields: dict[str, Any], *payload: Buffer) -> None:
        """Send a message; `payload` is joined.

        Raises:
            ChannelClosedError: the other end is closed.
        """
        try:
            for part in _packed(kind, fields, payload):
                self._socket.sendall(part)
        except OSError:
            raise ChannelClosedError("the other end is gone") from None

    def receive(self, bounds: Bounds = DEFAULT_BOUNDS) -> Message:
        """Wait for a message.

        Raises:
            ChannelClosedError: the other end is gone.
            ChannelError: what comes is no message, or too large.
        """
        kind, json_bytes, payload_bytes = _sizes(self._exactly(_HEADER.size), bounds)
        return Message(kind, bytes(self._exactly(json_bytes)), self._exactly(payload_bytes))

    def _exactly(self, size: int) -> bytearray:
        received = bytearray()
        while len(received) < size:
            try:
                part = self._socket.recv(min(_PIECE_BYTES, size - len(received)))
            except OSError:
                part = b""
            if not part:
                raise ChannelClosedError("the other end is gone")
            received += part
        return received


class ServiceChannel:
    """The service's end, on its event loop; one coroutine sends and receives at a time.

    A call that is cancelled in mid-message leaves the channel unusable: the child must then be
    ended.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Take ownership of a connected stream socket."""
        sock.setblocking(False)
        self._socket = sock

    async def send(self, kind: int, fields: dict[str, Any], *payload: Buffer) -> None:
        """Send a message; `payload` is joined.

        Raises:
            ChannelClosedError: the child is gone.
        """
        loop = asyncio.get_running_loop()
        try:
            for part in _packed(kind, fields, payload):
                await loop.sock_sendall(self._socket, part)
        except OSError:
            raise ChannelClosedError("the child is gone") from None

    async def receive(self, bounds: Bounds = DEFAULT_BOUNDS) -> Message:
        """Wait for a message.

        Raises:
            ChannelClosedError: the child is gone.
            ChannelError: what comes is no message, or too large.
        """
        kind, json_bytes, payload_bytes = _sizes(await self._exactly(_HEADER.size), bounds)
        data = bytes(await self._exactly(json_bytes))
        return Message(kind, data, await self._exactly(payload_bytes))

    async def _exactly(self, size: int) -> bytearray:
        loop = asyncio.get_running_loop()
        received = bytearray()
        while len(received) < size:
            try:
                part = await loop.sock_recv(self._socket, min(_PIECE_BYTES, size - len(received)))
            except OSError:
                part = b""
            if not part:
                raise ChannelClosedError("the child is gone")
            received += part
        return received

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        self._socket.close()
