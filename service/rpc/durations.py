"""Converts seconds to and from protobuf durations; film times are exact fractions."""

from fractions import Fraction

from google.protobuf.duration_pb2 import Duration

from service.errors import InvalidFieldError

_NANOSECONDS = 10**9


def duration(seconds: Fraction | float) -> Duration:
    """Return a protobuf duration, rounded to the nearest nanosecond."""
    nanoseconds = round(Fraction(seconds) * _NANOSECONDS)
    sign = -1 if nanoseconds < 0 else 1
    whole, rest = divmod(abs(nanoseconds), _NANOSECONDS)
    return Duration(seconds=sign * whole, nanos=sign * rest)


def seconds_of(duration: Duration, field: str) -> Fraction:
    """Return a duration in exact seconds; it may be negative.

    `field` is its path in the request. Raises InvalidFieldError if it is not valid.
    """
    seconds, nanos = duration.seconds, duration.nanos
    if abs(nanos) >= _NANOSECONDS or seconds * nanos < 0:
        raise InvalidFieldError(
            field,
            f"is no duration: {seconds} s and {nanos} ns; the nanoseconds must be less than a "
            "second and of the seconds' sign",
            reason="INVALID_DURATION",
        )
    return seconds + Fraction(nanos, _NANOSECONDS)
