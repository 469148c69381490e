"""Times as people write them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refilm.cli._times import format_time, parse_time

MILLISECONDS = st.integers(0, 100 * 3600 * 1000)


@given(MILLISECONDS)
def test_what_is_shown_can_be_typed(milliseconds: int) -> None:
    time = Fraction(milliseconds, 1000)
    assert parse_time(format_time(time)) == time
    assert parse_time(format_time(float(time))) == time


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_every_way_to_write_a_time_means_the_same(h: int, m: int, s: int, ms: int) -> None:
    time = Fraction(((h * 60 + m) * 60 + s) * 1000 + ms, 1000)
    whole = h * 3600 + m * 60 + s
    for text in (
        f"{h}:{m:02}:{s:02}.{ms:03}",
        f"{h}:{m}:{s}.{ms:03}",
        f"{h * 60 + m}:{s:02}.{ms:03}",
        f"{whole}.{ms:03}",
        f"{whole}.{ms:03}s",
        f"{h}h{m}m{s}.{ms:03}s",
        f"{h * 60 + m}m{s}.{ms:03}s",
    ):
        assert parse_time(text) == time


@given(st.text("0123456789:.hms -+e", max_size=9))
def test_a_text_is_a_time_or_refused(text: str) -> None:
    try:
        time = parse_time(text)
    except ValueError as error:
        assert repr(text) in str(error)
    else:
        assert time >= 0
        assert not set(text) & set(" -+e")


@pytest.mark.parametrize("text", ["", ":", "1:60", "1:60:00", "1:2:3:4", "-1", "1.", "1m:2", "٣"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.000"), (83.4, "1:23.400"), (3723.5, "1:02:03.500"), (59.9996, "1:00.000")],
)
def test_times_are_shown_to_the_millisecond(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
