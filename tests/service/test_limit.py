"""What the service takes on at once, and how it refuses one too many."""

import grpc
import pytest

from service.errors import OverloadedError
from service.limit import Limit, Limits
from service.rpc.errors import refusal
from service.settings import Settings


def films(places: int) -> Limit:
    return Limit(
        places,
        "films are in progress",
        setting="max_reconstructions",
        reason="TOO_MANY_FILMS",
        retry_after=7.0,
    )


def test_one_too_many_is_refused_with_a_reason_and_a_delay() -> None:
    limit = films(2)
    limit.enter()
    limit.enter()

    with pytest.raises(OverloadedError, match="2 films are in progress, as many as") as refused:
        limit.enter()

    assert limit.taken == 2
    assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.reason == "TOO_MANY_FILMS"
    assert refused.value.retry_after == 7.0
    assert refused.value.metadata == {"setting": "REFILM_MAX_RECONSTRUCTIONS"}
    # Clients whose retries are gRPC's own are told as well.
    assert ("grpc-retry-pushback-ms", "7000") in refusal(refused.value, "").trailing_metadata


def test_a_place_that_is_given_back_is_taken_again() -> None:
    limit = films(1)

    limit.enter()
    limit.leave()
    limit.enter()

    assert limit.is_full


def test_a_block_holds_a_place_however_it_ends() -> None:
    limit = films(1)

    with pytest.raises(KeyError), limit:
        assert limit.taken == 1
        raise KeyError

    assert limit.taken == 0
    with limit:
        pass
    assert limit.taken == 0


def test_who_was_refused_gives_nothing_back() -> None:
    limit = films(1)
    with limit:
        with pytest.raises(OverloadedError), limit:
            raise AssertionError("never here")
        assert limit.taken == 1


def test_more_places_cannot_be_given_back_than_were_taken() -> None:
    with pytest.raises(ValueError, match="no place is taken"):
        films(1).leave()


def test_each_limit_is_the_one_that_its_setting_sets() -> None:
    numbers = {
        "max_reconstructions": 1,
        "max_uploads": 2,
        "max_clips": 3,
        "max_calls_waiting": 4,
        "max_searches": 5,
        "max_duplicate_searches": 6,
        "max_interpolated_films": 7,
    }
    limits = Limits.of(Settings.model_validate(numbers))

    found = {}
    for limit in (getattr(limits, name) for name in Limits.__dataclass_fields__):
        for _ in range(limit.places):
            limit.enter()
        with pytest.raises(OverloadedError) as refused:
            limit.enter()
        found[refused.value.metadata["setting"]] = limit.places
        assert refused.value.retry_after
    assert found == {f"REFILM_{name.upper()}": number for name, number in numbers.items()}
