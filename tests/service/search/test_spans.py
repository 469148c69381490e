"""Passages in the similarity of frames, against the plain definition of a peak's prominence."""

from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from service.search.spans import MARGIN, Span, reaches_out, spans
from tests.service.search.oracle import prominent

VALUES = st.lists(st.integers(0, 20).map(lambda level: level / 20), max_size=40)


@given(VALUES)
@example([0.5])
@example([])
@example([0.9, 0.85, 0.9, 0.7, 0.75, 0.5, 0.9])
def test_a_passage_for_each_prominent_peak(values: list[float]) -> None:
    expected = [place for place in prominent(values) if values[place] >= MARGIN]
    assert [span.best for span in spans(np.array(values))] == expected


@given(VALUES, st.sampled_from([0.0, 0.3, 0.55]))
def test_passages_hold_what_is_near_their_best(values: list[float], minimum: float) -> None:
    found = spans(np.array(values), minimum)

    for span in found:
        inside = values[span.first : span.end]
        assert span.similarity == max(inside) == values[span.best]
        assert min(inside) >= minimum and span.similarity - min(inside) < MARGIN
        for beside in (span.first - 1, span.end):
            if 0 <= beside < len(values):
                assert values[beside] < minimum or span.similarity - values[beside] >= MARGIN
    for before, after in pairwise(found):
        assert before.end <= after.first


def test_a_fade_is_one_passage() -> None:
    fade = np.linspace(1.0, 0.0, 50)

    assert spans(fade.astype(np.float32)) == [Span(0, 5, 0, 1.0)]


def test_a_frame_that_is_the_whole_margin_below_does_not_belong() -> None:
    assert spans(np.array([0.0, MARGIN, 0.0])) == [Span(1, 2, 1, MARGIN)]


def test_a_passage_may_go_on_beyond_what_is_known() -> None:
    assert reaches_out(np.array([0.9, 0.5, 0.9, 0.5])) == (True, False)
    assert reaches_out(np.array([0.85, 0.9, 0.5, 0.95])) == (True, True)
    assert reaches_out(np.array([0.1, 0.9, 0.1]), 0.5) == (False, False)
    assert reaches_out(np.array([0.85, 0.9, 0.5])) == (True, False)
    assert reaches_out(np.array([0.85, 0.9, 0.5]), 0.87) == (False, False)
    assert reaches_out(np.array([0.05, 0.05])) == (False, False)
