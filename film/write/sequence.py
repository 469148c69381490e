"""Writes pictures that do not come from a film as one: evenly timed, without sound."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from film.facts import FilmFacts
from film.output import OutputSettings
from film.read.batch import FilmBatch
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from film.write.film_writer import FilmWriter


class SequenceWriter:
    """Takes model frames, and passes the bytes of a fragmented MP4 of 256 x 144 to a sink.

    For one thread at a time. As a context manager it closes, or aborts after an exception.
    """

    def __init__(self, sink: Callable[[bytes], None], frame_rate: Fraction, frames: int) -> None:
        """Set up the output; nothing is written yet.

        Args:
            sink: called with the bytes in order, at most 1 MiB at a time.
            frame_rate: pictures a second.
            frames: how many there will be, for the duration in the header.
        """
        self._writer = FilmWriter(sink, _facts(frame_rate, frames), (), OutputSettings(sound=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Take the next pictures, [N, 144, 256, 3] RGB."""
        first = self._writer.frames
        batch = FilmBatch(
            frames=frames,
            pts=np.arange(first, first + len(frames), dtype=np.int64),
            durations=np.ones(len(frames), np.int64),
        )
        self._writer.write(batch, frames)

    def close(self) -> None:
        """Write what is left and finish the output. No effect once the writer has ended."""
        self._writer.close()

    def abort(self) -> None:
        """Abort: release everything, write nothing more."""
        self._writer.abort()


def _facts(frame_rate: Fraction, frames: int) -> FilmFacts:
    return FilmFacts(
        container="",
        video_codec="",
        width=MODEL_FRAME_WIDTH,
        height=MODEL_FRAME_HEIGHT,
        sample_aspect_ratio=Fraction(1),
        rotation=0,
        average_frame_rate=frame_rate,
        time_base=1 / frame_rate,
        duration=frames / frame_rate,
        estimated_frames=frames,
        interlaced=False,
        transfer="bt709",
        tone_mapped=False,
        bit_depth=8,
        sound_tracks=(),
    )
