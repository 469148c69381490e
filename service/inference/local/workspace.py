"""The folder and shared memory of a local Triton, removed even after its owner was killed.

A local Triton's shared memory has its owner's token in its name. The owner holds a lock on a file
of that name; the kernel releases it when the owner dies. A token whose lock can be acquired has a
dead owner, whichever container it ran in.
"""

import fcntl
import os
import secrets
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_PREFIX = "refilm_triton_"
_LOCK = ".lock"


class Workspace:
    """One local Triton's shared memory and temporary folder."""

    def __init__(self) -> None:
        """Take a new token and remove what dead owners left."""
        sweep()
        while True:
            self.name = _PREFIX + secrets.token_hex(6)
            self._lock_file = SHARED_MEMORY / (self.name + _LOCK)
            self._lock = os.open(self._lock_file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            # Another process's sweep may have removed the file in between.
            if self._lock_file.exists():
                break
            os.close(self._lock)
        self.folder = Path(tempfile.gettempdir()) / self.name
        os.write(self._lock, str(self.folder).encode())
        self.folder.mkdir(mode=0o700)

    @property
    def shared_memory_prefix(self) -> str:
        """The prefix of the names of all shared memory regions."""
        return self.name + "_"

    def remove_shared_memory(self) -> None:
        """Remove the regions; Triton must have exited."""
        _remove_regions(self.name)

    def remove(self) -> None:
        """Remove everything; Triton must have exited."""
        self.remove_shared_memory()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock_file.unlink(missing_ok=True)
        os.close(self._lock)


def sweep() -> None:
    """Remove what dead owners left behind; live owners are not affected."""
    for lock_file in SHARED_MEMORY.glob(f"{_PREFIX}*{_LOCK}"):
        with suppress(OSError):
            _sweep_one(lock_file)


def _sweep_one(lock_file: Path) -> None:
    descriptor = os.open(lock_file, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        name = lock_file.name.removesuffix(_LOCK)
        folder = Path(os.read(descriptor, 4096).decode())
        if folder.name == name:
            _end_programs_in(folder)
            shutil.rmtree(folder, ignore_errors=True)
        _remove_regions(name)
        lock_file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _end_programs_in(folder: Path) -> None:
    """Kill stubs that outlived their Triton: a busy one may wait for it forever."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "exe").readlink().is_relative_to(folder):
                os.kill(int(process.name), signal.SIGKILL)


def _remove_regions(name: str) -> None:
    for region in SHARED_MEMORY.glob(f"{name}_*"):
        region.unlink(missing_ok=True)
