"""What a confined child cannot do, and what it still can."""

import os
import socket

import pytest

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
