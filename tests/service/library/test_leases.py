"""Leases: one holder among any number, taken over only from one that shows no life."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from service.library.leases import Leases, LeaseWatch
from service.storage.objects import ObjectStore

FILM, RENDITION = "film", "rendition"


def leases(store: ObjectStore, owner: str = "one") -> Leases:
    return Leases(store, owner=owner, seconds=8.0)


def test_of_many_one_takes_it(object_store: ObjectStore) -> None:
    every = [leases(object_store, f"owner-{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda one: one.take(FILM, RENDITION, None), every))
    assert sum(lease is not None for lease in taken) == 1
    newest = every[0].newest(FILM, RENDITION)
    assert newest is not None and newest.number == 1 and newest.seems_held


def test_who_is_overtaken_learns_of_it_for_good(object_store: ObjectStore) -> None:
    one, two = leases(object_store, "one"), leases(object_store, "two")
    first = one.take(FILM, RENDITION, None)
    assert first is not None and first.renew()
    second = two.take(FILM, RENDITION, two.newest(FILM, RENDITION))
    assert second is not None and second.renew()
    assert not first.renew()
    first.release()
    assert not first.renew()
    assert second.renew()
    newest = one.newest(FILM, RENDITION)
    assert newest is not None and (newest.number, newest.owner) == (2, "two")
    assert first.attempt != second.attempt


def test_a_lease_given_back_is_free_at_once(object_store: ObjectStore) -> None:
    one = leases(object_store)
    lease = one.take(FILM, RENDITION, None)
    assert lease is not None
    watch = LeaseWatch(8.0)
    assert not watch.is_free(one.newest(FILM, RENDITION))
    lease.release()
    newest = one.newest(FILM, RENDITION)
    assert newest is not None and not newest.seems_held
    assert watch.is_free(newest)
    assert watch.is_free(None)


@pytest.mark.parametrize("offset", [-1e6, 0.0, 1e6])
def test_a_lease_is_free_once_its_count_stands_still_by_the_watcher_s_clock(
    object_store: ObjectStore, offset: float
) -> None:
    now = [offset]
    one = leases(object_store)
    lease = one.take(FILM, RENDITION, None)
    assert lease is not None
    watch = LeaseWatch(8.0, clock=lambda: now[0])
    for _ in range(5):
        assert not watch.is_free(one.newest(FILM, RENDITION))
        now[0] += 7.9
        lease.renew()
    assert not watch.is_free(one.newest(FILM, RENDITION))
    now[0] += 7.9
    assert not watch.is_free(one.newest(FILM, RENDITION))
    now[0] += 0.1
    assert watch.is_free(one.newest(FILM, RENDITION))
