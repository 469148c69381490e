"""What is tried again, how often, and from where it goes on."""

import time
from collections.abc import AsyncGenerator, Callable, Iterator

import pytest

from service import retry
from service.errors import NotFoundError, UnavailableError
from service.retry import (
    REQUEST_ATTEMPTS,
    REQUEST_SECONDS,
    read_with_retries,
    request_backoff,
    with_retries,
)

DATA = bytes(range(100))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_DELAYS", (0.0, 0.0, 0.0))


def failing(times: int, error: Exception) -> tuple[Callable[[], int], list[int]]:
    """Return a call that fails so often and then returns how often it was made, and its calls."""
    calls: list[int] = []

    def call() -> int:
        calls.append(len(calls) + 1)
        if len(calls) <= times:
            raise error
        return len(calls)

    return call, calls


async def test_what_is_unavailable_is_tried_a_bounded_number_of_times() -> None:
    for times in range(4):
        call, _ = failing(times, UnavailableError("away"))

        async def attempt(call: Callable[[], int] = call) -> int:
            return call()

        assert await with_retries(attempt) == times + 1
    call, calls = failing(100, UnavailableError("away"))

    async def forever() -> int:
        return call()

    with pytest.raises(UnavailableError):
        await with_retries(forever)
    assert len(calls) == 4


async def test_other_errors_are_not_tried_again() -> None:
    call, calls = failing(1, NotFoundError("gone", reason="GONE"))

    async def attempt() -> int:
        return call()

    with pytest.raises(NotFoundError):
        await with_retries(attempt)
    assert calls == [1]


async def pull(items: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    for item in items:
        yield item


async def test_pieces_go_on_where_they_were() -> None:
    begun: list[int] = []

    def read(position: int) -> Iterator[bytes]:
        begun.append(position)
        yield DATA[position : position + 10]
        if position + 10 < len(DATA):
            raise UnavailableError("away")

    pieces = [piece async for piece in read_with_retries(pull, read)]
    assert b"".join(pieces) == DATA
    assert begun == list(range(0, 100, 10)), "a piece is progress: more tries than without one"


async def test_pieces_that_do_not_come_end_in_the_error() -> None:
    begun: list[int] = []

    def read(position: int) -> Iterator[bytes]:
        begun.append(position)
        if position == 0:
            yield DATA[:10]
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        async for _ in read_with_retries(pull, read):
            pass
    assert begun == [0, 10, 10, 10]


def test_a_request_is_sent_again_after_growing_pauses_of_chance() -> None:
    rounds = [list(request_backoff()) for _ in range(200)]
    assert all(len(pauses) <= REQUEST_ATTEMPTS - 1 for pauses in rounds)
    for tried, pauses in enumerate(zip(*rounds, strict=False), start=1):
        assert 0 <= min(pauses) <= max(pauses) <= 0.2 * 2**tried
        assert len(set(pauses)) > 100


def test_a_request_that_hung_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = request_backoff()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + REQUEST_SECONDS)
    assert list(pauses) == []
