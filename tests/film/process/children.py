"""What children do in tests: a module for the fork server."""

import ctypes
import errno
import mmap
import os
import resource
import socket
import threading
from collections.abc import Sequence

from film.process.channel import ChannelClosedError, ChildChannel


def main(descriptors: Sequence[int]) -> None:
    """Do what is asked for by name, and answer with what came of it, until the other end closes."""
    channel = ChildChannel(socket.socket(fileno=descriptors[0]))
    while True:
        try:
            message = channel.receive()
        except ChannelClosedError:
            return
        fields = message.fields()
        try:
            result = globals()[f"do_{fields['do']}"](descriptors, *fields.get("with", ()))
        except BaseException as error:
            result = type(error).__name__
        channel.send(message.kind, {"result": result})


def do_pid(_: Sequence[int]) -> int:
    return os.getpid()


def do_open(_: Sequence[int], path: str, flags: int) -> str:
    os.close(os.open(path, flags, 0o600))
    return "done"


def do_socket(_: Sequence[int], family: int) -> str:
    socket.socket(family, socket.SOCK_STREAM).close()
    return "done"


def do_socketpair(_: Sequence[int]) -> str:
    socket.socketpair()
    return "done"


def do_fork(_: Sequence[int]) -> str:
    if not os.fork():
        os._exit(0)
    return "done"


def do_exec(_: Sequence[int]) -> None:
    os.execv("/bin/true", ["true"])


def do_kill(_: Sequence[int], pid: int) -> str:
    os.kill(pid, 0)
    return "done"


def do_ptrace(_: Sequence[int], pid: int) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0) < 0:
        return os.strerror(ctypes.get_errno())
    return "done"


def do_run_memory(_: Sequence[int]) -> str:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    return "done"


def do_limits(_: Sequence[int]) -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
    return "done"


def do_memory(_: Sequence[int], size: int) -> int:
    return len(bytearray(size))


def do_hold_memory(_: Sequence[int], size: int) -> None:
    held = bytearray(os.urandom(1 << 20)) * (size >> 20)
    while held:
        pass


def do_thread(_: Sequence[int]) -> str:
    ran: list[str] = []
    thread = threading.Thread(target=ran.append, args=("done",))
    thread.start()
    thread.join()
    return ran[0]


def do_environment(_: Sequence[int]) -> dict[str, str]:
    return dict(os.environ)


def do_descriptors(_: Sequence[int]) -> list[int]:
    def is_open(number: int) -> bool:
        try:
            os.lseek(number, 0, os.SEEK_CUR)
        except OSError as error:
            return error.errno != errno.EBADF
        return True

    return [number for number in range(3, 1024) if is_open(number)]


def do_truncate(descriptors: Sequence[int]) -> str:
    os.ftruncate(descriptors[1], 1)
    return "done"


def do_spin(_: Sequence[int]) -> None:
    while True:
        pass


def do_exit(_: Sequence[int], status: int) -> None:
    os._exit(status)


def do_crash(_: Sequence[int]) -> None:
    ctypes.string_at(0)


def do_abort(_: Sequence[int]) -> None:
    os.abort()
