"""Batches of the reader: pictures with their times, and the sound packets between them."""

from __future__ import annotations

from dataclasses import dataclass, field

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from film.segments import ReadingPoint
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH


@dataclass(slots=True)
class FilmBatch:
    """Consecutive pictures in presentation order, and the sound packets read along with them.

    A batch may hold sound alone (a film whose sound is stored before its pictures).
    """

    frames: NDArray[np.uint8]
    """Model frames, [N, 144, 256, 3] RGB."""
    pts: NDArray[np.int64]
    """Presentation times in the film's time base, [N], strictly increasing across batches."""
    durations: NDArray[np.int64]
    """Each picture's duration in the film's time base, [N]; 0 if the film does not say."""
    pictures: list[NDArray[np.uint8]] | None = None
    """The same pictures at the size asked for, each [H, W, 3] RGB; None if not asked for."""
    sound: list[av.Packet[AudioStream]] = field(default_factory=list)
    """Undecoded packets of the film's sound streams, in file order."""
    reading: ReadingPoint | None = None
    """From a segmented reader: how to start reading at this batch's first picture, if that
    begins a segment."""

    @property
    def begins_segment(self) -> bool:
        """Whether a segment begins with this batch; none begins within one."""
        return self.reading is not None


class BatchMaker:
    """Collects pictures into batches of one size."""

    def __init__(self, size: int, with_pictures: bool) -> None:
        if size < 1:
            raise ValueError(f"a batch holds at least one picture, not {size}")
        self._size = size
        self._with_pictures = with_pictures
        self._clear()

    def _clear(self) -> None:
        shape = (self._size, MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3)
        self._frames = np.empty(shape, np.uint8)
        self._pictures: list[NDArray[np.uint8]] = []
        self._pts: list[int] = []
        self._durations: list[int] = []
        self._reading: ReadingPoint | None = None

    @property
    def count(self) -> int:
        """Pictures collected so far."""
        return len(self._pts)

    @property
    def full(self) -> bool:
        """Whether the batch has reached its size."""
        return self.count == self._size

    def add(
        self,
        frame: NDArray[np.uint8],
        picture: NDArray[np.uint8] | None,
        pts: int,
        duration: int,
    ) -> None:
        """Add a model frame and, if wanted, its picture."""
        self._frames[self.count] = frame
        if picture is not None:
            self._pictures.append(picture)
        self._pts.append(pts)
        self._durations.append(duration)

    def begin_segment(self, reading: ReadingPoint) -> None:
        """Mark the next picture, the batch's first, as the start of a segment."""
        self._reading = reading

    def sound_alone(self, sound: list[av.Packet[AudioStream]]) -> FilmBatch:
        """Return sound without the pictures collected so far."""
        return FilmBatch(
            frames=self._frames[:0],
            pts=np.empty(0, np.int64),
            durations=np.empty(0, np.int64),
            pictures=[] if self._with_pictures else None,
            sound=sound,
        )

    def take(self, sound: list[av.Packet[AudioStream]]) -> FilmBatch:
        """Return the batch with the given sound, and begin the next."""
        batch = FilmBatch(
            frames=self._frames[: self.count],
            pts=np.array(self._pts, np.int64),
            durations=np.array(self._durations, np.int64),
            pictures=self._pictures if self._with_pictures else None,
            sound=sound,
            reading=self._reading,
        )
        self._clear()
        return batch
