"""The events of a reconstruction."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from film.facts import FilmFacts


@dataclass(frozen=True, slots=True)
class FilmOpened:
    """The film's facts and the output's size; the first event."""

    facts: FilmFacts
    output_size: tuple[int, int]
    """Width and height of the output picture in pixels."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress, about twice a second."""

    bytes_received: int
    frames_decoded: int
    frames_reconstructed: int
    frames_written: int
    position: Fraction
    """Seconds from the film's start to the end of the last written frame."""
    frames_reused: int = 0
    """Written frames that existed before."""


@dataclass(frozen=True, slots=True)
class LatentsMade:
    """The latents of consecutive frames, in presentation order."""

    pts: NDArray[np.int64]
    """Presentation times in the film's time base, [N]."""
    latents: NDArray[np.float32]
    """[N, 200]."""


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """The next bytes of the output film, at most 1 MiB."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """How long each stage was busy, not waiting."""

    read: float = 0.0
    encode: float = 0.0
    decode: float = 0.0
    write: float = 0.0

    def __add__(self, other: "StageSeconds") -> "StageSeconds":
        return StageSeconds(
            self.read + other.read,
            self.encode + other.encode,
            self.decode + other.decode,
            self.write + other.write,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """The result; the last event of a successful reconstruction."""

    frames: int
    duration: Fraction
    """Seconds from the first frame's presentation to the end of the last."""
    bytes_received: int
    bytes_sent: int
    film_digest: str
    """ "sha256:" and 64 hexadecimal digits over the film's bytes."""
    stage_seconds: StageSeconds
    warnings: tuple[str, ...]
    film: str = ""
    """The film's id if it is in the library."""
    rendition: str = ""
    """The rendition's id if the film is in the library."""


Event = FilmOpened | Progress | LatentsMade | OutputChunk | Summary
