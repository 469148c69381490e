"""Ends that nobody's cancellation cuts short or leaves behind, and what runs in the background."""

import asyncio
import signal

import pytest

from service.aio import background, run_to_completion


async def turns() -> None:
    """Let everything that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_it_is_waited_for_however_often_who_waits_is_cancelled() -> None:
    may_end, ended = asyncio.Event(), False

    async def end() -> None:
        nonlocal ended
        await may_end.wait()
        ended = True

    waiting = asyncio.ensure_future(run_to_completion(end()))
    await turns()
    for _ in range(3):
        waiting.cancel()
        await turns()
        assert not waiting.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended


@pytest.mark.parametrize("cancelled", [False, True])
async def test_its_error_is_raised_unless_a_cancellation_is(cancelled: bool) -> None:
    may_end = asyncio.Event()

    async def end() -> None:
        await may_end.wait()
        raise ValueError

    waiting = asyncio.ensure_future(run_to_completion(end()))
    await turns()
    if cancelled:
        waiting.cancel()
        await turns()
    may_end.set()
    with pytest.raises(asyncio.CancelledError if cancelled else ValueError):
        await waiting


async def test_what_runs_in_the_background_is_ended_with_the_block() -> None:
    began, ended = asyncio.Event(), False

    async def work() -> None:
        nonlocal ended
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await turns()
            ended = True

    async with background(work()):
        await began.wait()
        assert not ended
    assert ended


async def test_the_service_is_reported_to_end_when_something_in_the_background_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised: list[signal.Signals] = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)

    async def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        async with background(work()):
            await turns()
            assert raised == [signal.SIGTERM]
