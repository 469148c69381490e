"""Filters, against the same logic in Python, over any nesting and any text."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidFieldError
from service.library.films import Film
from service.rpc.filters import Filter
from tests.support.library_films import synthetic_film

FILMS = [synthetic_film(number) for number in range(60)]


class Case(NamedTuple):
    text: str
    wanted: Callable[[Film], bool]


comparisons = st.builds(
    lambda sign, width: Case(
        f"width {sign} {width}",
        lambda film: {
            "=": film.facts.width == width,
            "!=": film.facts.width != width,
            "<": film.facts.width < width,
            "<=": film.facts.width <= width,
            ">": film.facts.width > width,
            ">=": film.facts.width >= width,
            ":": film.facts.width == width,
        }[sign],
    ),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", ":"]),
    st.integers(0, 6).map(lambda step: 320 * step),
)
words = st.sampled_from(["bunny", "SINTEL", "one", "☂", "ORphan", "ANDroid"]).map(
    lambda word: Case(word, lambda film: word.lower() in film.title.lower())
)


def _joined(word: str, cases: list[Case], every: bool) -> Case:
    how = all if every else any
    return Case(word.join(case.text for case in cases), lambda f: how(c.wanted(f) for c in cases))


def _nested(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    group = inner.map(lambda case: Case(f"({case.text})", case.wanted))
    simple = comparisons | words | group
    term = simple | st.builds(
        lambda sign, case: Case(sign + case.text, lambda film: not case.wanted(film)),
        st.sampled_from(["-", "NOT "]),
        simple,
    )
    factor = st.lists(term, min_size=1, max_size=3).map(lambda cs: _joined(" OR ", cs, False))
    sequence = st.lists(factor, min_size=1, max_size=3).map(lambda cs: _joined("  ", cs, True))
    return st.lists(sequence, min_size=1, max_size=3).map(lambda cs: _joined(" AND ", cs, True))


@given(st.recursive(comparisons | words, _nested, max_leaves=12))
@settings(max_examples=100, deadline=None)
def test_any_nesting_means_what_aip_160_says(case: Case) -> None:
    if len(case.text) > 2000:
        return
    filter = Filter(case.text)
    assert [film.id for film in FILMS if filter.matches(film)] == [
        film.id for film in FILMS if case.wanted(film)
    ]


@given(st.text(max_size=60) | st.text("()-\"'=<>!: \tANDORwidth19s\\", max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_filter_or_refused_with_a_place(text: str) -> None:
    try:
        filter = Filter(text)
    except InvalidFieldError as error:
        assert error.reason == "INVALID_FILTER" and error.message.startswith("filter: at character")
    else:
        for film in FILMS[:3]:
            assert filter.matches(film) in (True, False)


@given(st.text(min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_any_text_can_be_quoted(text: str) -> None:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    filter = Filter(f"title = {quoted}")
    assert [film for film in FILMS if filter.matches(film)] == [
        film for film in FILMS if film.title == text
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title =", "at character 8: it ends where a field or word or quoted text was expected"),
        ("bunny)", "at character 6: ')' stands where"),
        ("(bunny", 'at character 7: it ends where ")" was expected'),
        ("title = AND", "at character 9: 'AND' stands where"),
        ('title = "open', "at character 9: '\"' stands where"),
        ("colour = red", 'at character 1: there is no field "colour"; fields are film_id, title,'),
        ("width > wide", "at character 9: width is compared with a number, for example 1280"),
        ("duration > 10m", "at character 12: duration is compared with seconds, for example 600s"),
        ("create_time > noon", "at character 15: create_time is compared with a date or"),
        ("create_time > 2026-01-01T12:00:00", "at character 15: create_time is compared with"),
        ("(" * 70 + "a" + ")" * 70, "is nested too deeply"),
        ("a " * 1001, "has 2002 characters; must have at most 2000"),
    ],
)
def test_a_fault_is_named_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        Filter(text)
    assert caught.value.message.startswith(f"filter: {says}")
