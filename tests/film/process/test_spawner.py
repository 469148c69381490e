"""Children start from a warm server, end when told to, and their ends are told."""

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from film.process.channel import ChannelClosedError
from film.process.sandbox import Rights
from film.process.spawner import Ended, Spawner, SpawnError
from tests.film.process.asking import MAIN, RIGHTS, asked, child, descriptors_open
from tests.support.service_process import wait_for


async def test_children_are_processes_of_their_own(spawner: Spawner):
    async with child(spawner) as (one, to_one), child(spawner) as (other, to_other):
        assert await asked(to_one, "pid") == one.pid
        assert await asked(to_other, "pid") == other.pid
        assert len({os.getpid(), one.pid, other.pid}) == 3


async def test_a_child_that_computes_is_killed(spawner: Spawner):
    async with child(spawner) as (started, channel):
        spinning = asyncio.ensure_future(asked(channel, "spin"))
        assert (await started.end()).status == -signal.SIGKILL
        with pytest.raises(ChannelClosedError):
            await spinning
        with pytest.raises(ProcessLookupError):
            os.kill(started.pid, 0)


@pytest.mark.parametrize(
    ("what", "arguments", "status"),
    [
        ("exit", (0,), 0),
        ("exit", (3,), 3),
        ("crash", (), -signal.SIGSEGV),
        ("abort", (), -signal.SIGABRT),
    ],
)
async def test_ends_are_reported(
    spawner: Spawner, what: str, arguments: tuple[int, ...], status: int
):
    async with child(spawner) as (started, channel), child(spawner) as (_, to_other):
        with pytest.raises(ChannelClosedError):
            await asked(channel, what, *arguments)
        ended = await asyncio.shield(started.ended)
        assert ended.status == status
        assert ended.memory_bytes > 1 << 20
        assert await asked(to_other, "thread") == "done"


async def test_a_child_ends_when_nobody_talks_to_it(spawner: Spawner):
    async with child(spawner) as (started, channel):
        await asked(channel, "pid")
        channel.close()
        assert (await asyncio.shield(started.ended)).status == 0


async def test_processor_time_is_limited(spawner: Spawner):
    rights = Rights(memory_bytes=1 << 30, cpu_seconds=1)
    async with child(spawner, rights=rights) as (started, channel):
        with pytest.raises(ChannelClosedError):
            await asked(channel, "spin")
        ended = await asyncio.shield(started.ended)
        assert ended.status == -signal.SIGXCPU
        assert 0.9 < ended.cpu_seconds < 2


async def test_children_go_with_a_server_that_dies_and_the_next_ones_start(spawner: Spawner):
    async with child(spawner) as (started, channel):
        spinning = asyncio.ensure_future(asked(channel, "spin"))
        server = int(_status(started.pid)["PPid"])
        os.kill(server, signal.SIGKILL)
        assert await asyncio.shield(started.ended) == Ended(None)
        with pytest.raises(ChannelClosedError):
            await spinning
    async with child(spawner) as (_, channel):
        assert await asked(channel, "thread") == "done"


async def test_a_server_that_stops_answering_is_killed_by_close(spawner: Spawner):
    async with child(spawner) as (started, _):
        server = int(_status(started.pid)["PPid"])
        os.kill(server, signal.SIGSTOP)
        await spawner.close()
        with pytest.raises(ProcessLookupError):
            os.kill(server, 0)


async def test_a_server_that_cannot_start_is_an_error():
    spawner = Spawner(["film.no_such_module"])
    with pytest.raises(SpawnError):
        await spawner.start()
    await spawner.close()


async def test_who_is_cancelled_while_a_child_starts_leaves_none_behind(spawner: Spawner):
    async with child(spawner) as (started, _):
        server = _status(started.pid)["PPid"]
        starting = [asyncio.ensure_future(spawner.spawn(MAIN, [0], RIGHTS)) for _ in range(5)]
        await asyncio.sleep(0)
        for start in starting:
            start.cancel()
        await asyncio.wait(starting)
        async with child(spawner) as (other, _):
            # Requests are served in order, so those before this one have been.
            kept = {str(started.pid), str(other.pid)}
            await asyncio.to_thread(
                wait_for, lambda: set(_children(server)) == kept or None, "only those kept"
            )


async def test_a_child_that_cannot_be_watched_is_an_error_and_ends(
    spawner: Spawner, monkeypatch: pytest.MonkeyPatch
):
    async with child(spawner) as (started, _):
        server = _status(started.pid)["PPid"]
        received = socket.recv_fds

        def without_descriptors(*arguments: Any):
            packet, descriptors, *rest = received(*arguments)
            for descriptor in descriptors:
                os.close(descriptor)
            return packet, [], *rest

        # As where the process has as many descriptors open as it may.
        monkeypatch.setattr(socket, "recv_fds", without_descriptors)
        with pytest.raises(SpawnError, match="too many descriptors"):
            await spawner.spawn(MAIN, [0], RIGHTS)
        monkeypatch.undo()
        async with child(spawner) as (other, _):
            kept = {str(started.pid), str(other.pid)}
            await asyncio.to_thread(
                wait_for, lambda: set(_children(server)) == kept or None, "only those kept"
            )


async def test_descriptors_come_back(spawner: Spawner):
    before = descriptors_open()
    for _ in range(3):
        async with child(spawner) as (_, channel):
            await asked(channel, "pid")
    assert descriptors_open() == before


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _children(server: str) -> list[str]:
    return Path(f"/proc/{server}/task/{server}/children").read_text().split()
