"""Ctrl-C while a client is at work.

KeyboardInterrupt is raised in the main thread between any two instructions. Inside gRPC it leaves
locks held and calls half started, and closing the channel then waits forever. So whatever uses a
client runs on a thread of its own, where it is never raised, and the main thread ends its calls.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from refilm._client import Client

_T = TypeVar("_T")

_DONE = b"\0"


def with_client(address: str, work: Callable[[Client], _T]) -> _T:
    """Runs `work` with a client for the service at `address`; returns or raises what it does.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it. The calls were cancelled, and `work` has cleaned up. A
            second Ctrl-C meanwhile ends the program at once.
    """
    outcome: Future[_T] = Future()
    may_leave = threading.Event()
    with _interrupts() as (wait, wake), Client(address) as client:

        def run() -> None:
            try:
                outcome.set_result(work(client))
            except BaseException as error:
                outcome.set_exception(error)
            wake.send(_DONE)
            # Only a thread that still lives can be sent a signal.
            may_leave.wait()

        worker = threading.Thread(target=run, name="refilm-command", daemon=True)
        worker.start()
        if wait.recv(1) == _DONE:
            may_leave.set()
            return outcome.result()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        client.close()
        _release_stdout(worker)
        # The end of its work, and of its use of `wake`.
        while wait.recv(1) != _DONE:
            pass
        may_leave.set()
    raise KeyboardInterrupt


@contextmanager
def _interrupts() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Has Ctrl-C send a byte instead of raising; yields where to receive and where to send."""
    wait, wake = socket.socketpair()
    wake.setblocking(False)
    before = signal.getsignal(signal.SIGINT)
    # A signal that comes just before the main thread begins to wait has left its byte by then; a
    # lock or a queue would not wake for it.
    wakeup_before = signal.set_wakeup_fd(wake.fileno())
    try:
        # If our parent had it ignored, as nohup does, it stays ignored.
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, _nothing)
        yield wait, wake
    finally:
        signal.set_wakeup_fd(wakeup_before)
        if signal.getsignal(signal.SIGINT) is _nothing:
            signal.signal(signal.SIGINT, before)
        wait.close()
        wake.close()


def _release_stdout(worker: threading.Thread) -> None:
    """Frees the thread from a write that nobody reads: the rest is discarded."""
    if worker.ident is None or sys.platform == "win32":
        return  # Windows has no such signals: there a second Ctrl-C is needed.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    # A signal interrupts the current write, which then continues on the new standard output. One
    # that does nothing by default, for it may arrive after this program's handlers are gone.
    signal.signal(signal.SIGURG, _nothing)
    signal.pthread_kill(worker.ident, signal.SIGURG)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Handles a signal that only has to arrive."""
