"""Writes a reconstruction as fragmented MP4 in whole segments, any of which work can go on after."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from film.batch import FilmBatch
from film.facts import FilmFacts
from film.output import OutputSettings
from film.segments import ResumePoint, Segment


class SegmentWriter:
    """Takes reconstructed pictures with the film's sound, and gives whole segments back.

    `init` and the segments' bytes, joined in order, are the film, whether they were made in one go
    or by several writers that each went on where the last whole segment ended. For one thread at a
    time.
    """

    init: bytes | None
    """The MP4's header; known with the first segment. None in a writer that goes on: it is the one
    that the first writer gave."""
    origin: Fraction
    """The film's time, in seconds, that is the output's zero; final with the first segment."""
    frames: int
    """Pictures taken, those of earlier writers included."""

    def __init__(
        self,
        facts: FilmFacts,
        sound_streams: Sequence[AudioStream],
        settings: OutputSettings,
        resume: ResumePoint | None = None,
    ) -> None:
        """Set up; to go on after `resume`, with a reader that does as well.

        Raises:
            ResumeError: the point is of another film, other settings or another encoder.
        """
        raise NotImplementedError

    @property
    def warnings(self) -> list[str]:
        """What was repaired or left out so far, one sentence each."""
        raise NotImplementedError

    def write(self, batch: FilmBatch, decoded: NDArray[np.uint8]) -> list[Segment]:
        """Take a segmented reader's batch and the reconstruction of its pictures.

        Returns:
            The segments that are whole now: none most of the time. A segment is whole some time
            after the next one's first picture, when all of its sound is there.

        Raises:
            ValueError: `decoded` does not match the batch, or the writer has ended.
            FilmLimitError: more sound than can be kept lies before the pictures that it belongs to.
        """
        raise NotImplementedError

    def close(self, warnings: Sequence[str] = ()) -> list[Segment]:
        """End the film; return what is left of it. `warnings` of the reader go into the last one.

        The last segment's resume point has `ended`. A film without pictures has no segment.
        """
        raise NotImplementedError

    def abort(self) -> None:
        """Give up: release everything. Without effect on one that was closed."""
        raise NotImplementedError
