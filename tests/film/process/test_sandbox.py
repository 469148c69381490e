"""What a confined child cannot do, and what it still can."""

import errno
import os
import socket
from collections.abc import Callable

import pytest

from film.process import sandbox
from film.process.channel import ServiceChannel
from film.process.frame_slots import FrameSlots
from film.process.sandbox import protection
from film.process.spawner import Spawner
from tests.film.process.asking import RIGHTS, asked, child

REFUSED = ("PermissionError", "OSError", "ValueError")


@pytest.fixture
async def channel(spawner: Spawner):
    async with child(spawner) as (_, channel):
        yield channel


async def test_this_machine_confines_fully():
    """Or the tests below would say nothing."""
    assert protection().missing == ()


@pytest.mark.parametrize(
    ("what", "arguments"),
    [
        ("open", ("/etc/hostname", os.O_RDONLY)),
        ("open", ("/proc/self/environ", os.O_RDONLY)),
        ("open", ("/tmp/refilm-child-wrote-this", os.O_WRONLY | os.O_CREAT)),
        ("socket", (socket.AF_INET,)),
        ("socket", (socket.AF_UNIX,)),
        ("socketpair", ()),
        ("fork", ()),
        ("exec", ()),
        ("kill", (os.getpid(),)),
        ("kill", (1,)),
        ("run_memory", ()),
        ("limits", ()),
    ],
)
async def test_is_refused(channel: ServiceChannel, what: str, arguments: tuple[object, ...]):
    assert await asked(channel, what, *arguments) in REFUSED


async def test_does_not_trace_others(channel: ServiceChannel):
    assert await asked(channel, "ptrace", os.getpid()) == "Operation not permitted"


async def test_computes_in_threads(channel: ServiceChannel):
    assert await asked(channel, "thread") == "done"


async def test_has_an_empty_environment_and_no_descriptors_but_its_own(channel: ServiceChannel):
    environment = await asked(channel, "environment")
    # Python adds the second where it finds no locale.
    assert set(environment) <= {"OPENBLAS_NUM_THREADS", "LC_CTYPE"}
    assert len(await asked(channel, "descriptors")) == 1


async def test_memory_is_limited(channel: ServiceChannel):
    assert await asked(channel, "memory", RIGHTS.memory_bytes // 2) == RIGHTS.memory_bytes // 2
    assert await asked(channel, "memory", RIGHTS.memory_bytes) == "MemoryError"


async def test_shared_frames_cannot_be_truncated(spawner: Spawner):
    slots, descriptor = FrameSlots.create(1)
    try:
        async with child(spawner, descriptor) as (_, channel):
            assert await asked(channel, "truncate") in REFUSED
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, 1)
    finally:
        os.close(descriptor)
    assert slots.copy_out(0, 32).shape == (32, 144, 256, 3)


def in_a_fork(confine: Callable[[], None], tries: Callable[[], object]) -> int:
    """Return the error number of what is tried once confined; 0: it can be done."""
    child = os.fork()
    if not child:
        code = 255
        try:
            sandbox._prctl(sandbox._PR_SET_NO_NEW_PRIVS, 1)
            confine()
            tries()
            code = 0
        except OSError as error:
            code = error.errno or 254
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def connect() -> None:
    with socket.socket() as sock:
        sock.connect(("127.0.0.1", 9))


@pytest.mark.process
@pytest.mark.parametrize("confine", [sandbox._landlock, lambda: sandbox._filter().load()])
@pytest.mark.parametrize(
    "tries",
    [
        lambda: os.open("/etc/hostname", os.O_RDONLY),
        lambda: os.kill(os.getppid(), 0),
        connect,
    ],
    ids=["files", "signals", "connections"],
)
def test_each_of_the_two_protects_alone(
    confine: Callable[[], None], tries: Callable[[], object]
) -> None:
    """Where a kernel or a library lacks one, the other still holds."""
    assert in_a_fork(lambda: None, tries) in (0, errno.ECONNREFUSED)
    assert in_a_fork(confine, tries) in (errno.EPERM, errno.EACCES)
