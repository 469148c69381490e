"""Times in a film as people write them: 1:02:03.5, 90, 90s, 1m30s."""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_CLOCK = re.compile(rf"(?:(?:(?P<h>[0-9]+):)?(?P<m>[0-9]+):)?(?P<s>{_NUMBER})", re.ASCII)
_UNITS = re.compile(
    rf"(?:(?P<h>{_NUMBER})h)?(?:(?P<m>{_NUMBER})m)?(?:(?P<s>{_NUMBER})s)?", re.ASCII
)
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def parse_time(text: str) -> Fraction:
    """Returns the exact seconds that a text specifies.

    Raises:
        ValueError: It is not a time, or has minutes or seconds above 59 after a colon.
    """
    clock = _CLOCK.fullmatch(text)
    match = clock or (_UNITS.fullmatch(text) if text else None)
    if match is None:
        raise ValueError(f"{text!r} is no time: write 1:02:03.5, 90, 90s or 1m30s")
    parts = {unit: Fraction(value) for unit, value in match.groupdict().items() if value}
    if clock and (("m" in parts and parts["s"] >= 60) or ("h" in parts and parts["m"] >= 60)):
        raise ValueError(f"{text!r} is no time: minutes and seconds behind a colon end at 59")
    return sum((value * _SECONDS[unit] for unit, value in parts.items()), Fraction(0))


def format_time(seconds: float | Fraction) -> str:
    """Returns a time to the millisecond, as `parse_time` reads it: 1:02:03.500, 1:23.400."""
    milliseconds = round(Fraction(seconds) * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 1000:02}.{rest % 1000:03}"
    return f"{hours}:{minutes:02}:{tail}" if hours else f"{minutes}:{tail}"
