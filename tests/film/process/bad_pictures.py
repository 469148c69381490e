"""Picture processes that do what none may: a module for the fork server; the picture says what."""

import ctypes
import os
import socket
from collections.abc import Sequence

from film.process.channel import Bounds, ChannelClosedError, ChildChannel
from film.process.picture_protocol import FRAME_BYTES, PictureKind

FRAME = bytes(FRAME_BYTES)


def main(descriptors: Sequence[int]) -> None:
    sock = socket.socket(fileno=descriptors[0])
    channel = ChildChannel(sock)
    while True:
        try:
            request = channel.receive(Bounds(payload_bytes=1 << 20))
        except ChannelClosedError:
            return
        match request.payload.decode():
            case "crash":
                ctypes.string_at(0)
            case "exit":
                os._exit(0)
            case "no message":
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            case "another kind":
                channel.send(77, {}, FRAME)
            case "no frame":
                channel.send(PictureKind.DONE, {"detail": 1})
            case "half a frame":
                channel.send(PictureKind.DONE, {"detail": 1}, FRAME[1:])
            case "three frames":
                channel.send(PictureKind.DONE, {"detail": 1}, FRAME * 3)
            case "no detail":
                channel.send(PictureKind.DONE, {}, FRAME)
            case "detail is no number":
                channel.send(PictureKind.DONE, {"detail": float("nan")}, FRAME)
            case "detail is a list":
                channel.send(PictureKind.DONE, {"detail": []}, FRAME)
            case "unknown fault":
                channel.send(PictureKind.FAILED, {"error": 99, "message": ""})
            case "long message":
                channel.send(PictureKind.FAILED, {"error": 1, "message": "x" * 3000})
            case "memory":
                held = []
                while True:
                    held.append(bytes(b"x" * (1 << 20)))
            case _:
                channel.send(PictureKind.DONE, {"detail": 1}, FRAME)
