"""A proxy to the S3 server that can use TLS, drop or truncate responses and change requests."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Forwards bytes between its own port and the server's."""

    def __init__(self, endpoint: str, certificate: ssl.SSLContext | None = None) -> None:
        url = urlsplit(endpoint)
        self._server = (url.hostname, url.port)
        self._certificate = certificate
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.endpoint = f"{'https' if certificate else 'http'}://{self.address}"
        self.lost_answers = 0
        """The number of responses still to be dropped, with their connections."""
        self.cuts: list[int] = []
        """The bytes after which each of the next responses ends, with its connection."""
        self.change_request: Callable[[bytes], bytes] = lambda data: data
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(caller.close)
            if self._certificate is not None:
                caller = self._certificate.wrap_socket(caller, server_side=True)
                stack.callback(caller.close)
            server = stack.enter_context(socket.create_connection(self._server))
            threading.Thread(target=self._send, args=(caller, server), daemon=True).start()
            self._answer(server, caller)
            # Wakes the thread that reads requests.
            with contextlib.suppress(OSError):
                caller.shutdown(socket.SHUT_RDWR)

    def _send(self, caller: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := caller.recv(65536):
                server.sendall(self.change_request(data))
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, caller: socket.socket) -> None:
        left: int | None = None
        while data := server.recv(65536):
            if self.lost_answers:
                self.lost_answers -= 1
                return
            if left is None and self.cuts:
                left = self.cuts.pop(0)
            caller.sendall(data if left is None else data[:left])
            if left is not None:
                left -= len(data)
                if left <= 0:
                    return
