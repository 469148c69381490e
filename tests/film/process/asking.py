"""Starting children of `tests.film.process.children`, and asking them to do things."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from film.process.channel import ServiceChannel
from film.process.sandbox import Rights
from film.process.spawner import Child, Spawner

MAIN = "tests.film.process.children"
RIGHTS = Rights(memory_bytes=1 << 30, cpu_seconds=60)


@asynccontextmanager
async def child(
    spawner: Spawner, *descriptors: int, rights: Rights = RIGHTS
) -> AsyncIterator[tuple[Child, ServiceChannel]]:
    ours, theirs = socket.socketpair()
    with theirs:
        started = await spawner.spawn(MAIN, [theirs.fileno(), *descriptors], rights)
    channel = ServiceChannel(ours)
    try:
        yield started, channel
    finally:
        await started.end()
        channel.close()


async def asked(channel: ServiceChannel, what: str, *arguments: object):
    await channel.send(1, {"do": what, "with": arguments})
    return json.loads((await channel.receive()).data)["result"]


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
