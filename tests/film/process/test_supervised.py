"""Limits that hold from outside a film's process, whatever goes on in it."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from film.errors import FilmCrashedError, FilmLimitError
from film.limits import FilmLimits
from film.process.channel import ChannelClosedError, ServiceChannel
from film.process.spawner import Spawner
from film.process.supervised import SupervisedChild
from tests.film.process.asking import MAIN, asked


@asynccontextmanager
async def child(
    spawner: Spawner, limits: FilmLimits
) -> AsyncIterator[tuple[SupervisedChild, ServiceChannel]]:
    ours, theirs = socket.socketpair()
    with theirs:
        started = await SupervisedChild.start(spawner, MAIN, [theirs.fileno()], limits)
    channel = ServiceChannel(ours)
    try:
        yield started, channel
    finally:
        await started.end()
        channel.close()


async def ended(child: SupervisedChild, channel: ServiceChannel, what: str, *arguments: object):
    child.owes_answer += 1
    with pytest.raises(ChannelClosedError):
        await asked(channel, what, *arguments)
    return await child.why_ended()


async def test_processor_time_for_a_second_of_film(spawner: Spawner):
    limits = FilmLimits(cpu_seconds_per_second=0.1, cpu_seconds_at_start=0.1)
    async with child(spawner, limits) as (started, channel):
        started.film_seconds = 2.0
        error = await ended(started, channel, "spin")
    assert isinstance(error, FilmLimitError)
    assert error.reason == "FILM_LIMIT_CPU_SECONDS_PER_SECOND"
    assert "for the first 2.0" in str(error)


async def test_processor_time_in_all(spawner: Spawner):
    async with child(spawner, FilmLimits(cpu_seconds=1)) as (started, channel):
        error = await ended(started, channel, "spin")
    assert isinstance(error, FilmLimitError)
    assert error.limit == "cpu_seconds"


async def test_memory(spawner: Spawner):
    limits = FilmLimits(memory_bytes=200 << 20)
    async with child(spawner, limits) as (started, channel):
        error = await ended(started, channel, "hold_memory", 220 << 20)
    assert isinstance(error, FilmLimitError)
    assert error.limit == "memory_bytes"


async def test_a_process_that_neither_answers_nor_computes_is_ended(spawner: Spawner):
    async with child(spawner, FilmLimits(stall_seconds=0.5)) as (started, channel):
        started.film_seconds = 7.0
        os.kill(started.pid, signal.SIGSTOP)
        error = await ended(started, channel, "pid")
    assert isinstance(error, FilmCrashedError)
    assert "stopped at about 7.0 s" in str(error)


async def test_a_process_that_waits_for_bytes_is_not_ended(spawner: Spawner):
    async with child(spawner, FilmLimits(stall_seconds=0.3)) as (started, channel):
        started.waits_for_bytes = lambda: True
        os.kill(started.pid, signal.SIGSTOP)
        started.owes_answer += 1
        answer = asyncio.ensure_future(asked(channel, "thread"))
        # Longer than it may be silent otherwise.
        done, _ = await asyncio.wait({answer}, timeout=1.0)
        assert not done
        os.kill(started.pid, signal.SIGCONT)
        assert await answer == "done"


async def test_a_crash_is_reported_with_the_films_time(spawner: Spawner):
    async with child(spawner, FilmLimits()) as (started, channel):
        started.film_seconds = 12.34
        error = await ended(started, channel, "crash")
    assert isinstance(error, FilmCrashedError)
    assert "at about 12.3 s" in str(error)


async def test_the_first_reason_counts(spawner: Spawner):
    async with child(spawner, FilmLimits()) as (started, channel):
        started.fail(FilmLimitError("first"))
        started.fail(FilmLimitError("second"))
        assert str(await ended(started, channel, "pid")) == "first"
