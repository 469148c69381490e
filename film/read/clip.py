"""Reads a clip to match: evenly spread pictures, without bars.

It is read twice: the first pass finds its length, the pictures to take and its bars; the second
makes model frames of them. Neither holds more than a few pictures.
"""

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from film.clip_survey import MOST_SAMPLES, ClipSurvey
from film.letterbox import Bars, BarsFinder
from film.limits import ReadLimits
from film.read.colour_cube import CubeSource, any_cube
from film.read.film_reader import DEFAULT_LIMITS, FilmReader
from film.read.luma import LumaReader
from film.read.pictures import Renderer, orientation_of
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH

SAMPLE_SECONDS = Fraction(1, 5)
"""Minimum distance of the sampled pictures."""


def survey_clip(
    file: BinaryIO | io.RawIOBase,
    limits: ReadLimits = DEFAULT_LIMITS,
    progress: Callable[[Fraction], None] = lambda _: None,
) -> ClipSurvey:
    """Make the first pass over a clip; raises as `FilmReader` and its `pictures` do.

    `progress` is called for each picture with the seconds read so far.
    """
    with FilmReader(file, limits=limits, sound=False) as reader:
        time_base = reader.facts.time_base
        chosen: list[int] = []
        every = 1
        finder, luma = BarsFinder(), LumaReader()
        first: int | None = None
        last, duration, seen = 0, 0, -1
        for frame, pts, lasts in reader.pictures():
            first = pts if first is None else first
            duration = lasts if lasts > 0 else (pts - last if pts > first else 0)
            last = pts
            step = (pts - first) * time_base // (every * SAMPLE_SECONDS)
            if step > seen:
                seen = step
                chosen.append(pts)
                progress((pts - first) * time_base)
                finder.add(luma.read(frame))
                if len(chosen) > MOST_SAMPLES:
                    chosen, every = chosen[::2], 2 * every
                    seen = (pts - first) * time_base // (every * SAMPLE_SECONDS)
        origin = first if first is not None else 0
        return ClipSurvey(
            time_base, origin, (last + duration - origin) * time_base, tuple(chosen), finder.find()
        )


def clip_frames(
    file: BinaryIO | io.RawIOBase,
    survey: ClipSurvey,
    bars: Bars,
    size: int,
    *,
    limits: ReadLimits = DEFAULT_LIMITS,
    cubes: CubeSource = any_cube,
) -> Iterator[NDArray[np.uint8]]:
    """Read a clip again; yield the chosen pictures as model frames [N, 144, 256, 3].

    Args:
        file: the same bytes, from their start.
        survey: the result of the first pass.
        bars: what to crop from the stored pictures.
        size: frames at a time.
        limits: limits on the clip.
        cubes: the source of the tone mapping tables.
    """
    renderer = Renderer(MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT, bars, cubes=cubes)
    chosen = frozenset(survey.chosen)
    frames: list[NDArray[np.uint8]] = []
    with FilmReader(file, limits=limits, sound=False) as reader:
        for frame, pts, _ in reader.pictures():
            if pts in chosen:
                frames.append(renderer.render(frame, orientation_of(frame)))
            if len(frames) == size:
                yield np.stack(frames)
                frames = []
            if pts >= survey.chosen[-1]:
                break
    if frames:
        yield np.stack(frames)
