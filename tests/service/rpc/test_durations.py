"""Seconds as protobuf durations, exact to the nanosecond."""

from fractions import Fraction

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidFieldError
from service.rpc.durations import duration, seconds_of

NANOSECOND = Fraction(1, 10**9)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, (0, 0)),
        (Fraction(1001, 24000), (0, 41708333)),
        (Fraction(2, 3), (0, 666666667)),
        (Fraction(5999999999999, 10**12), (6, 0)),
        (90.25, (90, 250000000)),
        (0.1, (0, 100000000)),
        (-0.5, (0, -500000000)),
        (Fraction(-7, 2), (-3, -500000000)),
        (-2, (-2, 0)),
    ],
)
def test_to_the_nearest_nanosecond(seconds: Fraction | float, expected: tuple[int, int]) -> None:
    message = duration(seconds)
    assert (message.seconds, message.nanos) == expected


@settings(deadline=None)
@given(st.fractions(-(10**6), 10**6))
def test_what_was_written_is_read_to_half_a_nanosecond(seconds: Fraction) -> None:
    message = duration(seconds)
    message.ToTimedelta()  # Raises where it is no valid duration.
    assert abs(seconds_of(message, "time") - seconds) <= NANOSECOND / 2


@settings(deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_whole_nanoseconds_are_exact(nanoseconds: int) -> None:
    seconds = nanoseconds * NANOSECOND
    assert seconds_of(duration(seconds), "time") == seconds


@pytest.mark.parametrize(("seconds", "nanos"), [(0, 10**9), (1, -1), (-1, 1), (0, -(10**9))])
def test_what_is_no_duration_is_refused_with_its_field(seconds: int, nanos: int) -> None:
    with pytest.raises(InvalidFieldError, match="is no duration") as caught:
        seconds_of(Duration(seconds=seconds, nanos=nanos), "start_time")
    assert caught.value.reason == "INVALID_DURATION"
    assert [violation.field for violation in caught.value.violations] == ["start_time"]
