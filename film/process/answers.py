"""Validates the responses of child processes, which are not trusted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from enum import Enum
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from film import errors
from film.clip_survey import MOST_SAMPLES, ClipSurvey
from film.errors import FilmError, FilmLimitError
from film.facts import FilmFacts, SoundAction, SoundTrack
from film.letterbox import Bars
from film.process.channel import ChannelError
from film.process.protocol import MAX_ERROR_CHARACTERS
from film.segments import ResumeError, ResumePoint

_FRACTION = re.compile(r"-?\d{1,24}(/[1-9]\d{0,23})?")
_WORD = re.compile(r"[ -~]{0,64}")
_MAX_DEPTH = 16
_MAX_WARNINGS = 1000
_MAX_TRACKS = 1024
_LARGEST = 1 << 63
_MAX_SIDE = 1 << 16

_ERRORS: dict[str, type[FilmError]] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, FilmError)
}
"""The errors that a film process may answer with."""

E = TypeVar("E", bound=Enum)


class Answer:
    """A JSON object from a child. Every method raises ChannelError if the value is invalid."""

    def __init__(self, fields: object) -> None:
        self._fields: dict[str, Any]
        if not isinstance(fields, dict):
            raise ChannelError("an answer is no JSON object")
        self._fields = fields

    @classmethod
    def of(cls, data: bytes) -> Answer:
        """Read an answer's JSON."""
        try:
            return cls(json.loads(data, parse_constant=_refuse))
        except (ValueError, RecursionError):
            raise ChannelError("an answer is no JSON") from None

    def has(self, name: str) -> bool:
        """Return whether there is such a field."""
        return name in self._fields

    def integer(self, name: str, least: int, most: int) -> int:
        """Return a whole number."""
        value = self._fields.get(name)
        if type(value) is not int or not least <= value <= most:
            raise ChannelError(f"{name} is no whole number from {least} to {most}")
        return value

    def optional_integer(self, name: str, least: int, most: int) -> int | None:
        """Return a whole number, or None."""
        return None if self._fields.get(name) is None else self.integer(name, least, most)

    def seconds(self, name: str) -> float:
        """Return a number that is not negative."""
        value = self._fields.get(name)
        if type(value) is int and 0 <= value < _LARGEST:
            return float(value)
        if type(value) is not float or not 0 <= value < math.inf:
            raise ChannelError(f"{name} is no number of seconds")
        return value

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self._fields.get(name)
        if type(value) is not bool:
            raise ChannelError(f"{name} is neither true nor false")
        return value

    def text(self, name: str, most: int) -> str:
        """Return text of at most `most` characters."""
        return _text(self._fields.get(name), most)

    def word(self, name: str) -> str:
        """Return a short name in ASCII."""
        return self.choice_of(name, _WORD)

    def choice_of(self, name: str, pattern: re.Pattern[str]) -> str:
        """Return text that matches a pattern as a whole."""
        value = self._fields.get(name)
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise ChannelError(f"{name} is not what it must be")
        return value

    def fraction(self, name: str) -> Fraction:
        """Return a fraction of two numbers of ordinary length."""
        return Fraction(self.choice_of(name, _FRACTION))

    def optional_fraction(self, name: str) -> Fraction | None:
        """Return a fraction, or None."""
        return None if self._fields.get(name) is None else self.fraction(name)

    def one_of(self, name: str, kinds: type[E]) -> E:
        """Return one of an enum's values."""
        try:
            return kinds(self._fields.get(name))
        except ValueError:
            raise ChannelError(f"{name} is unknown") from None

    def array(self, name: str, most: int) -> list[object]:
        """Return a list of at most `most` items."""
        value = self._fields.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise ChannelError(f"{name} is no list of at most {most} items")
        return value

    def objects(self, name: str, most: int) -> Iterable[Answer]:
        """Return the JSON objects in a list."""
        return [Answer(item) for item in self.array(name, most)]

    def inner(self, name: str) -> Answer:
        """Return a JSON object within this one."""
        return Answer(self._fields.get(name))

    def warnings(self) -> tuple[str, ...]:
        """Return sentences for the film's caller."""
        found = self.array("warnings", _MAX_WARNINGS)
        return tuple(_text(one, MAX_ERROR_CHARACTERS) for one in found)

    def facts(self) -> FilmFacts:
        """Return a film's facts."""
        return FilmFacts(
            container=self.word("container"),
            video_codec=self.word("video_codec"),
            width=self.integer("width", 1, _MAX_SIDE),
            height=self.integer("height", 1, _MAX_SIDE),
            sample_aspect_ratio=_within(
                self.fraction("sample_aspect_ratio"), Fraction(1, 16), Fraction(16)
            ),
            rotation=self.integer("rotation", 0, 270),
            average_frame_rate=self.optional_fraction("average_frame_rate"),
            time_base=self.time_base(),
            duration=self.optional_fraction("duration"),
            estimated_frames=self.optional_integer("estimated_frames", 0, _LARGEST - 1),
            interlaced=self.flag("interlaced"),
            transfer=self.word("transfer"),
            tone_mapped=self.flag("tone_mapped"),
            bit_depth=self.integer("bit_depth", 1, 64),
            sound_tracks=tuple(
                SoundTrack(
                    codec=track.word("codec"),
                    sample_rate=track.integer("sample_rate", 0, 1 << 30),
                    channels=track.integer("channels", 0, 1 << 16),
                    language=track.word("language"),
                    action=track.one_of("action", SoundAction),
                )
                for track in self.objects("sound_tracks", _MAX_TRACKS)
            ),
        )

    def bars(self) -> Bars:
        """Return bars around a picture."""
        return Bars(
            **{
                side: self.integer(side, 0, _MAX_SIDE)
                for side in ("left", "top", "right", "bottom")
            }
        )

    def survey(self) -> ClipSurvey:
        """Return a clip's survey."""
        chosen = self.array("chosen", MOST_SAMPLES)
        times = [value for value in chosen if type(value) is int and -_LARGEST <= value < _LARGEST]
        if len(times) != len(chosen) or sorted(set(times)) != times or not times:
            raise ChannelError("chosen are no increasing times")
        return ClipSurvey(
            time_base=self.time_base(),
            origin_pts=self.integer("origin_pts", -_LARGEST, _LARGEST - 1),
            duration=self.fraction("duration"),
            chosen=tuple(times),
            bars=self.inner("bars").bars(),
        )

    def time_base(self) -> Fraction:
        """Return the unit of a film's times."""
        return _within(self.fraction("time_base"), Fraction(1, 1 << 40), Fraction(1 << 31))

    def resume_point(self, name: str) -> ResumePoint:
        """Return a resume point; what only the next child reads is plain JSON, bounded in depth."""
        point = self.inner(name)
        point.fraction("position")
        point.warnings()
        point.integer("segments", 1, _LARGEST - 1)
        point.integer("frames", 0, _LARGEST - 1)
        _check_depth(point._fields, _MAX_DEPTH)
        if point._fields.get("reading") is not None:
            reading = point.inner("reading")
            reading.integer("finished", 0, _LARGEST - 1)
            reading.integer("pts", -_LARGEST, _LARGEST - 1)
            reading.inner("state")
        try:
            return ResumePoint.from_json(point._fields)
        except ResumeError:
            raise ChannelError(f"{name} is no resume point") from None

    def error(self) -> Exception:
        """Return the error that a child reported."""
        name, message = self.word("error"), self.text("message", MAX_ERROR_CHARACTERS)
        if name == ResumeError.__name__:
            return ResumeError(message)
        kind = _ERRORS.get(name)
        if kind is None:
            return UnexpectedError(name, message)
        if issubclass(kind, FilmLimitError):
            return kind(message, self.word("limit"))
        return kind(message)


class UnexpectedError(Exception):
    """A child reported a bug of ours; `details` are only for the log."""

    def __init__(self, name: str, details: str) -> None:
        super().__init__(f"{name} in the process of a film")
        self.name = name
        self.details = details


def unpack_numbers(
    payload: bytearray, kinds: Iterable[tuple[type[np.generic], int]]
) -> list[NDArray[Any]]:
    """Return arrays of these types and lengths from bytes that hold exactly those."""
    arrays: list[NDArray[Any]] = []
    at = 0
    for kind, count in kinds:
        size = count * np.dtype(kind).itemsize
        if at + size > len(payload):
            raise ChannelError("an answer holds fewer bytes than it must")
        arrays.append(np.frombuffer(payload, kind, count, at).copy())
        at += size
    if at != len(payload):
        raise ChannelError("an answer holds more bytes than it may")
    return arrays


def _text(value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ChannelError(f"this is no text of at most {most} characters")
    return value


def _within(value: Fraction, least: Fraction, most: Fraction) -> Fraction:
    if not least <= value <= most:
        raise ChannelError(f"{value} is not from {least} to {most}")
    return value


def _check_depth(value: object, left: int) -> None:
    if left < 0:
        raise ChannelError("an answer is nested too deeply")
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_depth(item, left - 1)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
