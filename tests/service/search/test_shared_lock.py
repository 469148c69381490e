"""Readers hold the lock together, a writer alone, and a writer that waits goes first."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from service.search.shared_lock import SharedLock

SECONDS = 10.0


class Holder(threading.Thread):
    """Takes the lock on a thread of its own, and holds it until it is told to let go."""

    def __init__(self, take: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(daemon=True)
        self._acquire = take
        self.has = threading.Event()
        self._may_go = threading.Event()
        self.start()

    def run(self) -> None:
        with self._acquire():
            self.has.set()
            assert self._may_go.wait(SECONDS)

    def go(self) -> None:
        self._may_go.set()
        self.join(SECONDS)
        assert not self.is_alive()


def waiting(lock: SharedLock) -> None:
    """Wait until a writer waits."""
    with lock._changed:
        assert lock._changed.wait_for(lambda: lock._writers_waiting > 0, SECONDS)


@pytest.fixture
def lock() -> SharedLock:
    return SharedLock()


def test_readers_hold_it_together(lock: SharedLock) -> None:
    readers = [Holder(lock.shared) for _ in range(3)]
    assert all(reader.has.wait(SECONDS) for reader in readers)
    for reader in readers:
        reader.go()


def test_a_writer_waits_for_all_readers_and_is_alone(lock: SharedLock) -> None:
    readers = [Holder(lock.shared) for _ in range(2)]
    assert all(reader.has.wait(SECONDS) for reader in readers)
    writer = Holder(lock.alone)
    waiting(lock)
    readers[0].go()
    assert not writer.has.is_set()
    readers[1].go()
    assert writer.has.wait(SECONDS)
    others = [Holder(lock.shared), Holder(lock.alone)]
    waiting(lock)
    assert not any(other.has.is_set() for other in others)
    writer.go()
    for other in reversed(others):
        assert other.has.wait(SECONDS)
        other.go()


def test_a_writer_that_waits_goes_before_new_readers(lock: SharedLock) -> None:
    reader = Holder(lock.shared)
    assert reader.has.wait(SECONDS)
    writer = Holder(lock.alone)
    waiting(lock)
    late = Holder(lock.shared)
    reader.go()
    assert writer.has.wait(SECONDS)
    assert not late.has.is_set()
    writer.go()
    assert late.has.wait(SECONDS)
    late.go()


def test_it_is_free_after_an_error(lock: SharedLock) -> None:
    for take in (lock.shared, lock.alone):
        with pytest.raises(RuntimeError), take():
            raise RuntimeError
    with lock.alone():
        pass
