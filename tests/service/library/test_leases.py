"""Leases: one holder among any number, taken over only from one that shows no life."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

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


def test_each_sign_of_life_counts_and_puts_off_its_end(object_store: ObjectStore) -> None:
    one = leases(object_store)
    assert one.newest(FILM, RENDITION) is None
    lease = one.take(FILM, RENDITION, None)
    assert lease is not None
    assert re.fullmatch("000001-[0-9a-f]{8}", lease.attempt)
    seen = [one.newest(FILM, RENDITION)]
    assert lease.renew()
    seen.append(one.newest(FILM, RENDITION))
    lease.release()
    seen.append(one.newest(FILM, RENDITION))
    assert [state is not None and (state.beats, state.released) for state in seen] == [
        (0, False),
        (1, False),
        (2, True),
    ]
    ends = [datetime.fromisoformat(state.expires) for state in seen if state is not None]
    assert ends == sorted(set(ends))
    ahead = ends[0] - datetime.now(UTC)
    assert timedelta(0) < ahead <= timedelta(seconds=8)


def test_every_rendition_of_every_film_has_its_own(object_store: ObjectStore) -> None:
    one = leases(object_store)
    assert one.take(FILM, RENDITION, None) is not None
    for film, rendition in ((FILM, "other"), ("other", RENDITION)):
        assert one.newest(film, rendition) is None
        assert one.take(film, rendition, None) is not None


def test_a_holder_whose_lease_was_removed_is_not_overtaken(object_store: ObjectStore) -> None:
    one = leases(object_store)
    lease = one.take(FILM, RENDITION, None)
    assert lease is not None
    object_store.delete([found.key for found in object_store.list("")])
    assert lease.renew()
    assert one.newest(FILM, RENDITION) is not None


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
