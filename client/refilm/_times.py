"""Conversion of times and durations between callers and messages."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from fractions import Fraction

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

Seconds = float | Fraction | timedelta
"""A time or a duration: seconds as a float or an exact Fraction, or a timedelta."""

_NANOS = 10**9
# The range of a Duration: 10,000 years.
_MAX_SECONDS = 315_576_000_000


def duration(time: Seconds) -> Duration:
    """Returns the message of a duration, to the nanosecond.

    Raises:
        ValueError: It is negative or not finite.
    """
    try:
        if isinstance(time, timedelta):
            microseconds = time // timedelta(microseconds=1)
            exact = Fraction(microseconds, 10**6)
        else:
            exact = Fraction(time)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"a time is a finite number of seconds, not {time}") from error
    if not 0 <= exact <= _MAX_SECONDS:
        raise ValueError(f"a time is at least 0 seconds, not {float(exact):g}")
    whole, nanos = divmod(round(exact * _NANOS), _NANOS)
    return Duration(seconds=whole, nanos=nanos)


def seconds(message: Duration) -> float:
    """Returns a duration in seconds."""
    return message.seconds + message.nanos / _NANOS


def moment(message: Timestamp) -> datetime:
    """Returns a point in time, in UTC."""
    return message.ToDatetime(timezone.utc)
