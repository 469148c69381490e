"""The program that film and picture processes are forked from, with all they need imported.

`python -I -m film.process.forkserver PARENT SOCKET MODULE...`, in an empty environment. It imports
the modules, each of which has `main(descriptors)`, reports `ready`, and then forks a child for one
of them per request. It has one thread, touches no untrusted bytes, and dies with its parent.

Requests and reports are one packet each on a `SOCK_SEQPACKET` socket: JSON, with descriptors
attached.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NoReturn

from film.process.sandbox import (
    Rights,
    confine,
    die_with_parent,
    hide_from_peers,
    name_process,
    protection,
)

PACKET_BYTES = 1 << 16
MAX_DESCRIPTORS = 16

Main = Callable[[Sequence[int]], None]
"""What a child runs; takes the descriptors sent with the request, in order."""


class ForkServer:
    """Forks children, and reports how they ended."""

    def __init__(self, control: socket.socket, mains: dict[str, Main]) -> None:
        self._control = control
        self._mains = mains
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Serve until the other end is gone."""
        self._send({"ready": asdict(protection())})
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._reap(key.fd, key.data)
                elif not self._serve():
                    return

    def _serve(self) -> bool:
        packet, descriptors, _, _ = socket.recv_fds(
            self._control, PACKET_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not packet:
            return False
        try:
            request = json.loads(packet)
            server = os.getpid()
            child = os.fork()
            if not child:
                _become(request, self._mains, descriptors, server)
        except OSError as error:
            self._send({"request": request["request"], "error": os.strerror(error.errno or 0)})
            return True
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        watched = os.pidfd_open(child)
        self._selector.register(watched, selectors.EVENT_READ, child)
        self._send({"request": request["request"], "child": child}, watched)
        return True

    def _reap(self, watched: int, child: int) -> None:
        self._selector.unregister(watched)
        os.close(watched)
        _, status, used = os.wait4(child, 0)
        self._send(
            {
                "ended": child,
                "status": os.waitstatus_to_exitcode(status),
                "cpu_seconds": used.ru_utime + used.ru_stime,
                "memory_bytes": used.ru_maxrss * 1024,
            }
        )

    def _send(self, report: dict[str, Any], *descriptors: int) -> None:
        socket.send_fds(self._control, [json.dumps(report).encode()], descriptors)


def _become(
    request: dict[str, Any], mains: dict[str, Main], descriptors: Sequence[int], server: int
) -> NoReturn:
    """Run as the child; never returns to the server."""
    status = 1
    try:
        die_with_parent(server)
        name_process(request["main"].rpartition(".")[2])
        confine(Rights(**request["rights"]), keep=descriptors)
        mains[request["main"]](descriptors)
        status = 0
    except BaseException:
        # Standard error is /dev/null, unless this failed before the redirection.
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    """Import what children need, then serve."""
    parent, control = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    hide_from_peers()
    mains: dict[str, Main] = {name: importlib.import_module(name).main for name in sys.argv[3:]}
    # Frozen objects are not touched, and so not copied, by collections in children.
    gc.collect()
    gc.freeze()
    ForkServer(socket.socket(fileno=control), mains).run()


if __name__ == "__main__":
    main()
