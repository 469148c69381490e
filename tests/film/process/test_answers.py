"""What a film's process answers is held against what it may be."""

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from film.errors import FilmLimitError, TruncatedFilmError
from film.facts import FilmFacts, SoundAction, SoundTrack
from film.process.answers import Answer, UnexpectedError, unpack_numbers
from film.process.channel import ChannelError
from film.process.protocol import facts_to_json
from film.segments import ReadingPoint, ResumeError, ResumePoint

FACTS = FilmFacts(
    container="mp4",
    video_codec="h264",
    width=640,
    height=360,
    sample_aspect_ratio=Fraction(4, 3),
    rotation=90,
    average_frame_rate=Fraction(24000, 1001),
    time_base=Fraction(1, 90000),
    duration=None,
    estimated_frames=1440,
    interlaced=False,
    transfer="bt709",
    tone_mapped=False,
    bit_depth=10,
    sound_tracks=(SoundTrack("aac", 48000, 2, "eng", SoundAction.COPY),),
)
POINT = ResumePoint(
    segments=2,
    frames=288,
    position=Fraction(12),
    warnings=("a sentence",),
    reading=ReadingPoint(2, 288, {"packet": 12}),
    writing={"alignment": [1, 2]},
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def answer(**fields: Any) -> Answer:
    return Answer.of(json.dumps(fields).encode())


def test_facts_come_back_as_they_were():
    assert answer(facts=facts_to_json(FACTS)).inner("facts").facts() == FACTS
    bare = replace(FACTS, average_frame_rate=None, duration=Fraction(5), sound_tracks=())
    assert answer(facts=facts_to_json(bare)).inner("facts").facts() == bare


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 0),
        ("width", 1 << 40),
        ("width", 640.0),
        ("width", True),
        ("time_base", "0"),
        ("time_base", "1/0"),
        ("time_base", "1e999999999"),
        ("time_base", "9" * 10_000),
        ("time_base", 1),
        ("container", "x" * 100),
        ("container", "mp4\n"),
        ("sound_tracks", [{}]),
        ("sound_tracks", "aac"),
        ("interlaced", 1),
    ],
)
def test_facts_that_cannot_be_are_refused(name: str, value: object):
    facts = {**facts_to_json(FACTS), name: value}
    with pytest.raises(ChannelError):
        answer(facts=facts).inner("facts").facts()


def test_resume_points_come_back_as_they_were():
    assert answer(resume=POINT.to_json()).resume_point("resume") == POINT
    ended = replace(POINT, reading=None)
    assert answer(resume=ended.to_json()).resume_point("resume") == ended


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("position", "1e999999999"),
        ("segments", -1),
        ("segments", "2"),
        ("warnings", [1]),
        ("reading", 5),
        ("reading", {"finished": "1", "pts": 0, "state": {}}),
        ("reading", {"finished": 1, "pts": 0, "state": {}, "more": 1}),
        ("format", 99),
        ("writing", None),
    ],
)
def test_resume_points_that_cannot_be_are_refused(name: str, value: object):
    with pytest.raises(ChannelError):
        answer(resume={**POINT.to_json(), name: value}).resume_point("resume")


def test_depth_is_bounded():
    deep: object = {}
    for _ in range(50):
        deep = {"a": deep}
    with pytest.raises(ChannelError):
        answer(resume={**POINT.to_json(), "writing": deep}).resume_point("resume")
    with pytest.raises(ChannelError):
        Answer.of(b"[" * 100_000)


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{", b'{"a": NaN}', b"\xff\xfe"])
def test_what_is_no_object_is_refused(data: bytes):
    with pytest.raises(ChannelError):
        Answer.of(data)


@pytest.mark.parametrize("value", ["1", -1, float("inf"), None, True, [], 1e400])
def test_seconds_are_numbers(value: object):
    with pytest.raises(ChannelError):
        Answer({"seconds": value}).seconds("seconds")
    assert Answer({"seconds": 1.5}).seconds("seconds") == 1.5


def test_errors_come_back_as_they_were():
    def error(name: str, message: str = "m", limit: str = "") -> Exception:
        return answer(error=name, message=message, limit=limit).error()

    assert isinstance(error("TruncatedFilmError"), TruncatedFilmError)
    assert isinstance(error("ResumeError"), ResumeError)
    limited = error("FilmLimitError", "too much", "pictures")
    assert isinstance(limited, FilmLimitError)
    assert (str(limited), limited.limit) == ("too much", "pictures")
    unexpected = error("KeyError", "a stack")
    assert isinstance(unexpected, UnexpectedError)
    assert "a stack" not in str(unexpected)
    with pytest.raises(ChannelError):
        error("SystemExit", "m" * 100_000)


def test_numbers_must_fill_their_bytes():
    data = bytearray(np.arange(3, dtype=np.int64).tobytes() + np.float32(1.5).tobytes())
    numbers, one = unpack_numbers(data, [(np.int64, 3), (np.float32, 1)])
    assert (numbers.tolist(), one.tolist()) == ([0, 1, 2], [1.5])
    wrong: list[list[tuple[type[np.generic], int]]] = [
        [(np.int64, 3)],
        [(np.int64, 4)],
        [(np.int64, 3), (np.float32, 2)],
    ]
    for kinds in wrong:
        with pytest.raises(ChannelError):
            unpack_numbers(data, kinds)


@given(JSON)
def test_nothing_that_json_holds_is_taken_for_facts_or_a_point(value: object):
    for read in (
        lambda: Answer(value).facts(),
        lambda: Answer(value).error(),
        lambda: Answer(value).survey(),
        lambda: Answer({"resume": value}).resume_point("resume"),
    ):
        with pytest.raises(ChannelError):
            read()
