"""The fraction, the rate and the time left, as a caller sees them."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from io import BytesIO

import pytest
import refilm
from google.protobuf.duration_pb2 import Duration
from refilm._progress import Meter
from refilm._source import Source
from refilm.cli._report import describe
from refilm.v1 import autoencoder_pb2 as pb

FILM = refilm.FilmFacts(
    container="mp4",
    video_codec="h264",
    width=640,
    height=360,
    sample_aspect_ratio=Fraction(1),
    rotation=0,
    average_frame_rate=Fraction(24),
    time_base=Fraction(1, 24),
    duration=10.0,
    estimated_frames=240,
    interlaced=False,
    transfer="bt709",
    bit_depth=8,
    sound_tracks=(),
)


def counts(frames: int) -> pb.ReconstructionProgress:
    nanos = frames * 10**9 // 24
    return pb.ReconstructionProgress(
        frames_decoded=frames,
        frames_written=frames,
        position=Duration(seconds=nanos // 10**9, nanos=nanos % 10**9),
    )


def meter(film: refilm.FilmFacts, times: Iterator[float]) -> Meter:
    made = Meter(Source(BytesIO()), clock=lambda: next(times))
    made.start(film)
    return made


def test_the_rate_is_that_of_the_last_seconds() -> None:
    measured = meter(FILM, iter([0.0, 1.0, 2.0, 12.0]))
    first = measured.progress(counts(100))
    assert (first.fraction, first.frames_per_second) == (100 / 240, 100.0)
    assert first.eta == pytest.approx(1.4)
    measured.progress(counts(110))
    # From second 2 on: ten frames in ten seconds.
    last = measured.progress(counts(120))
    assert (last.frames_per_second, last.eta) == (1.0, 120.0)


def test_without_a_frame_total_the_position_tells() -> None:
    measured = meter(replace(FILM, estimated_frames=None), iter([0.0, 2.0]))
    progress = measured.progress(counts(48))
    assert progress.fraction == pytest.approx(0.2)
    assert progress.eta == pytest.approx(8.0)
    assert "48 frames (how many there are is not known)" in describe(progress)


@pytest.mark.parametrize("total", [None, 40])
def test_what_is_unknown_or_proven_wrong_is_said_to_be_unknown(total: int | None) -> None:
    duration = None if total is None else total / 24
    film = replace(FILM, estimated_frames=total, duration=duration)
    progress = meter(film, iter([0.0, 2.0])).progress(counts(48))
    assert (progress.frames_total, progress.fraction, progress.eta) == (None, None, None)
    line = describe(progress)
    assert "48 frames (how many there are is not known)" in line
    assert "24 frames/s" in line
    assert "time left unknown" in line
    assert "%" not in line


def test_nothing_done_yet_has_no_rate() -> None:
    progress = meter(FILM, iter([0.0, 0.0])).progress(counts(0))
    assert (progress.fraction, progress.frames_per_second, progress.eta) == (0.0, None, None)
