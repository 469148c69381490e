"""What the reader hands on: some pictures with their times, and the sound that lies among them."""

from __future__ import annotations

from dataclasses import dataclass, field

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray


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
    """How long each picture is shown in the film's time base, [N]; 0: the film does not say."""
    pictures: list[NDArray[np.uint8]] | None = None
    """The same pictures at the size asked for, each [H, W, 3] RGB; None if not asked for."""
    sound: list[av.Packet[AudioStream]] = field(default_factory=list)
    """Undecoded packets of the film's sound streams, in file order."""
