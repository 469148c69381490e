"""Tone mapping tables that are not shipped with the project: computed once, then cached."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from contextlib import closing

from film.errors import FilmError
from film.process.channel import Bounds, ChannelError, ServiceChannel
from film.process.protocol import CUBE_BYTES, CUBE_MAIN, Kind
from film.process.sandbox import Rights
from film.process.spawner import Spawner

CUBES_KEPT = 8
"""1.5 MiB each."""

_RIGHTS = Rights(memory_bytes=1 << 30, cpu_seconds=120)


class ColourCubes:
    """Computes tables in trusted children."""

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._making = asyncio.Lock()

    async def get(self, transfer: int, primaries: int) -> bytes:
        """Return a table's bytes.

        Raises FilmError if it cannot be computed, SpawnError if no child can be started.
        """
        kind = (transfer, primaries)
        # One at a time: a machine's cores are for films.
        async with self._making:
            if kind not in self._kept:
                cube = await self._make(transfer, primaries)
                while len(self._kept) >= CUBES_KEPT:
                    self._kept.popitem(last=False)
                self._kept[kind] = cube
            self._kept.move_to_end(kind)
            return self._kept[kind]

    async def _make(self, transfer: int, primaries: int) -> bytes:
        ours, theirs = socket.socketpair()
        with closing(ServiceChannel(ours)) as channel:
            with theirs:
                child = await self._spawner.spawn(CUBE_MAIN, [theirs.fileno()], _RIGHTS)
            try:
                await channel.send(Kind.COLOUR_CUBE, {"transfer": transfer, "primaries": primaries})
                answer = await channel.receive(Bounds(payload_bytes=CUBE_BYTES))
            except ChannelError:
                raise FilmError(
                    "the film's colours are of a kind that cannot be mapped to BT.709"
                ) from None
            finally:
                await child.end()
        return bytes(answer.payload)
