"""Times of requests: protobuf durations as exact seconds."""

from fractions import Fraction

from google.protobuf.duration_pb2 import Duration

from service.errors import InvalidFieldError


def seconds_of(duration: Duration, field: str) -> Fraction:
    """Return a duration in seconds, exactly, negative or not.

    `field` is its path in the request. Raises InvalidFieldError where it is no valid duration.
    """
    seconds, nanos = duration.seconds, duration.nanos
    if abs(nanos) >= 10**9 or seconds * nanos < 0:
        raise InvalidFieldError(
            field,
            f"is no duration: {seconds} s and {nanos} ns; the nanoseconds must be less than a "
            "second and of the seconds' sign",
            reason="INVALID_DURATION",
        )
    return seconds + Fraction(nanos, 10**9)
