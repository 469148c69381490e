"""Films written in segments, in one go or with an interruption after any of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import pytest
from numpy.typing import NDArray

import film.segments
from film.errors import FilmError
from film.facts import FilmFacts
from film.output import OutputSettings, picture_size
from film.read.batch import FilmBatch
from film.read.film_reader import FilmReader
from film.segments import ResumePoint, Segment
from film.write.segment_writer import SegmentWriter
from tests.film.outputs import Output

Change = Callable[[int, av.Packet], av.Packet | None]


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make segments short, so that clips of a second have several."""
    monkeypatch.setattr(film.segments, "FIRST_SECONDS", Fraction(1, 5))
    monkeypatch.setattr(film.segments, "LATER_SECONDS", Fraction(1, 4))


@dataclass
class Run:
    """What one writer made of a film, or of the rest of one."""

    facts: FilmFacts
    init: bytes | None
    segments: list[Segment]
    pictures: list[tuple[Any, ...]] = field(repr=False)
    """For each batch with pictures: times, durations, digests of the pictures, where it begins."""
    error: str
    """What the reader raised at the end."""
    warnings: list[str]
    origin: Fraction

    @property
    def data(self) -> list[bytes]:
        return [segment.data for segment in self.segments]

    def output(self) -> Output:
        """Return the film as a player gets it."""
        assert self.init is not None
        times = [int(pts) * self.facts.time_base for each in self.pictures for pts in each[0]]
        joined = b"".join([self.init, *self.data])
        return Output(joined, times, self.origin, self.warnings, self.facts)


def run(
    path: Path,
    settings: OutputSettings | None = None,
    *,
    resume: ResumePoint | None = None,
    size: int = 5,
    change: Change | None = None,
) -> Run:
    """Read and write a film, from its beginning or after some segments.

    `change` has every sound packet in its hands, as the reader counts them.
    """
    settings = settings or OutputSettings()
    pictures: list[tuple[Any, ...]] = []
    error = ""
    with (
        path.open("rb") as file,
        FilmReader(
            file,
            picture_size=lambda facts: picture_size(facts, settings),
            sound=settings.sound,
            segmented=True,
            resume=resume,
        ) as reader,
    ):
        writer = SegmentWriter(reader.facts, reader.sound_streams, settings, resume)
        segments: list[Segment] = []
        seen = 0
        try:
            for batch in reader.batches(size):
                if change is not None:
                    changed = [change(seen + n, packet) for n, packet in enumerate(batch.sound)]
                    seen += len(changed)
                    batch.sound = [packet for packet in changed if packet is not None]
                if len(batch.pts):
                    pictures.append(_described(batch))
                segments += writer.write(batch, batch.frames)
        except FilmError as raised:
            error = f"{type(raised).__name__}: {raised}"
        segments += writer.close(reader.warnings)
        warnings = [*reader.warnings, *writer.warnings]
        return Run(reader.facts, writer.init, segments, pictures, error, warnings, writer.origin)


def go_on(path: Path, whole: Run, after: int, **options: Any) -> Run:
    """Do again what comes after a number of segments, as another process would."""
    stored = json.dumps(whole.segments[after - 1].resume.to_json())
    return run(path, resume=ResumePoint.from_json(json.loads(stored)), **options)


def assert_resumes_anywhere(path: Path, **options: Any) -> Run:
    """Check that the film is the same to the last bit after whichever segment work was cut.

    Of a film with many segments a dozen are tried.
    """
    whole = run(path, **options)
    for after in range(1, len(whole.segments), 1 + len(whole.segments) // 12):
        rest = go_on(path, whole, after, **options)
        begins = sum(segment.frames for segment in whole.segments[:after])
        expected = _from(whole.pictures, begins)
        assert rest.init is None
        assert rest.error == whole.error
        if any("damaged" in warning for warning in whole.warnings):
            # What FFmpeg's threads make of damage differs from one time to the next.
            assert [each[0] for each in rest.pictures] == [each[0] for each in expected]
            continue
        assert rest.pictures == expected, f"pictures after {after}"
        assert rest.data == whole.data[after:], f"bytes after {after}"
        assert _points(rest.segments) == _points(whole.segments[after:])
        assert rest.warnings == whole.warnings
    return whole


def _points(segments: list[Segment]) -> list[ResumePoint]:
    """Return where work can go on; warnings only at the end, for they come as the sound is read."""
    return [
        segment.resume if segment.resume.ended else replace(segment.resume, warnings=())
        for segment in segments
    ]


def _from(batches: list[tuple[Any, ...]], frames: int) -> list[tuple[Any, ...]]:
    passed = 0
    for number, each in enumerate(batches):
        if passed == frames:
            return batches[number:]
        passed += len(each[0])
    raise AssertionError("a batch crosses the beginning of a segment")


def _described(batch: FilmBatch) -> tuple[Any, ...]:
    digests = [_digest(batch.frames)]
    if batch.pictures is not None:
        digests += map(_digest, batch.pictures)
    return batch.pts.tolist(), batch.durations.tolist(), digests, batch.reading


def _digest(pixels: NDArray[Any]) -> str:
    return sha256(pixels.tobytes()).hexdigest()
