"""The arguments and results of searches over latents."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple

from refilm._film_values import Film
from refilm._times import Seconds
from refilm._values import LatentBatch, ModelIdentity

if TYPE_CHECKING:
    from refilm._values import Floats

LatentsFormat = Literal["npy", "arrow"]
InterpolationMode = Literal["linear", "spherical"]
PictureFormat = Literal["raw", "png", "jpeg"]


class Moment(NamedTuple):
    """A moment of a film of the library: the frame shown then. Any such pair is accepted."""

    film: str | Film
    time: Seconds
    """From the film's first frame."""


@dataclass(frozen=True, eq=False, repr=False)
class FilmLatents(LatentBatch):
    """The latents of some frames of a library film, in presentation order.

    `pts` counts in `time_base`.
    """

    embeddings: Floats | None
    """[N, 200] float32, as `latents`; None if they were not requested."""
    time_base: Fraction
    """Seconds: the unit of the presentation times."""
    model: ModelIdentity
    """The model version that made them."""


@dataclass(frozen=True)
class SearchHit:
    """A passage in which every frame looks like the query."""

    film: str
    """ "films/{film}"."""
    title: str
    start: float
    """Seconds: its first frame."""
    end: float
    """Seconds: the end of its last frame."""
    best: float
    """Seconds: the frame that looks most like the query."""
    similarity: float
    """Of that frame, 0 to 1. 1: the model cannot tell them apart; about 0: no more similar than two
    random frames."""
    preview: bytes | None = field(repr=False)
    """That frame as the model reconstructs it, a JPEG file; None if it was not requested."""


@dataclass(frozen=True)
class SearchResult:
    """The passages that look like a query, the most similar first."""

    hits: tuple[SearchHit, ...]
    model: ModelIdentity
    """The model whose encodings were searched."""
    warning: str
    """Why the query can have no good answer: it is black or flat. Empty for a good one."""
    films_searched: int
    films_left_out: int
    """The number that have no latents of this model, or whose latents are not indexed yet."""


@dataclass(frozen=True)
class ClipMatch:
    """A passage of a film that a clip shows."""

    film: str
    """ "films/{film}"."""
    title: str
    start: float
    """Seconds: where the passage begins in the film."""
    end: float
    clip_start: float
    """Seconds: where in the clip the passage begins."""
    clip_end: float
    confidence: float
    """The confidence of the match, 0.5 to 1."""
    similarity: float
    """The mean over corresponding frames, as `SearchHit.similarity`."""


@dataclass(frozen=True)
class CroppedBars:
    """Bars around a clip's picture that were cropped, in pixels."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class MatchResult:
    """Where a clip comes from."""

    matches: tuple[ClipMatch, ...]
    """The most confident first; empty if the clip is unknown."""
    model: ModelIdentity
    """The model whose encodings were matched."""
    clip_duration: float
    """Seconds."""
    frames_compared: int
    warning: str
    """Why the clip can have no confident answer: it is black, flat or still. Else empty."""
    bars: CroppedBars
    films_searched: int
    films_left_out: int
    """The number that have no latents of this model, or whose latents are not indexed yet."""


@dataclass(frozen=True)
class Passage:
    """A passage of a film."""

    film: str
    """ "films/{film}"."""
    title: str
    start: float
    """Seconds."""
    end: float


@dataclass(frozen=True)
class DuplicatePair:
    """Two passages with the same content."""

    first: Passage
    second: Passage
    similarity: float
    """The mean over corresponding frames, as `SearchHit.similarity`."""
    model: ModelIdentity
    """The model whose encodings were compared."""
