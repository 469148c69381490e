"""The gate in front of Triton."""

import asyncio

import pytest

from service.errors import OverloadedError
from service.inference.admission import Admission


async def test_places_are_given_in_order_and_given_back() -> None:
    gate = Admission(10, max_wait_seconds=60)
    order: list[int] = []

    async def work(number: int, size: int) -> None:
        async with gate.places(size, patient=True):
            order.append(number)
            await asyncio.sleep(0)

    # The small one at the end would fit beside the first, but must not overtake the large one.
    async with gate.places(5, patient=True):
        tasks = [asyncio.create_task(work(number, size)) for number, size in enumerate((8, 1, 1))]
        await asyncio.sleep(0)
        assert (gate.in_flight, gate.waiting, order) == (5, 10, [])
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    assert (gate.in_flight, gate.waiting) == (0, 0)


async def test_places_that_come_free_go_to_all_for_whom_they_suffice() -> None:
    gate = Admission(4, max_wait_seconds=60)
    leave = asyncio.Event()

    async def work(size: int) -> None:
        async with gate.places(size, patient=True):
            await leave.wait()

    async with gate.places(4, patient=True):
        tasks = [asyncio.create_task(work(size)) for size in (2, 1, 2)]
        await asyncio.sleep(0)
        assert (gate.in_flight, gate.waiting) == (4, 5)
    # At once, and no more than there are places: the third must wait for one of the others.
    assert (gate.in_flight, gate.waiting) == (3, 2)
    leave.set()
    await asyncio.gather(*tasks)
    assert (gate.in_flight, gate.waiting) == (0, 0)


async def test_the_impatient_are_refused_with_a_delay_and_leave_no_trace() -> None:
    gate = Admission(4, max_wait_seconds=0.01)
    async with gate.places(4, patient=True):
        with pytest.raises(
            OverloadedError, match=r"^the service is .* hold; try again$"
        ) as refused:
            async with gate.places(1, patient=False):
                pass
        assert refused.value.retry_after == 0.01
        assert gate.waiting == 0
    async with gate.places(4, patient=False):
        assert gate.in_flight == 4
    assert gate.in_flight == 0


async def test_one_that_leaves_the_queue_lets_the_next_through() -> None:
    gate = Admission(4, max_wait_seconds=60)
    entered = asyncio.Event()

    async def work(size: int) -> None:
        async with gate.places(size, patient=True):
            entered.set()

    async with gate.places(2, patient=True):
        large = asyncio.create_task(work(4))
        await asyncio.sleep(0)
        small = asyncio.create_task(work(2))
        await asyncio.sleep(0)
        assert not entered.is_set()
        large.cancel()
        await asyncio.wait_for(entered.wait(), 10)
        await small
    assert (gate.in_flight, gate.waiting) == (0, 0)


async def test_places_granted_to_one_that_gives_up_at_that_moment_go_to_the_next() -> None:
    gate = Admission(4, max_wait_seconds=60)

    async def work() -> None:
        async with gate.places(4, patient=True):
            raise AssertionError("it was cancelled")

    async with gate.places(4, patient=True):
        waiting = asyncio.create_task(work())
        await asyncio.sleep(0)
    assert (gate.in_flight, gate.waiting) == (4, 0), "granted, and not told yet"
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert gate.in_flight == 0
    async with gate.places(4, patient=False):
        assert gate.in_flight == 4


async def test_a_cancelled_holder_gives_its_places_back() -> None:
    gate = Admission(4, max_wait_seconds=60)
    entered = asyncio.Event()

    async def work() -> None:
        async with gate.places(4, patient=True):
            entered.set()
            await asyncio.Event().wait()

    holder = asyncio.create_task(work())
    await entered.wait()
    holder.cancel()
    await asyncio.wait({holder})
    assert gate.in_flight == 0
