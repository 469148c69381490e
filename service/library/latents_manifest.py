"""The manifest of a film's latents: every part with its rows and times."""

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from service.library import layout
from service.library.records import (
    Key,
    Moment,
    RecordFormat,
    StoredModel,
    UnreadableRecordError,
)
from service.library.verified_reads import DamagedError


@dataclass(frozen=True, slots=True)
class LatentsPart:
    """Consecutive rows in four files: latents, times, embeddings and detail."""

    key: Key
    """Key of the latents' file, "…/<attempt>/NNNNNN.npy"."""
    rows: int
    first_pts: int
    last_pts: int
    """The pts of its last row: not the end of that frame."""
    digest: str
    """SHA-256 of the latents' file, 64 hexadecimal digits; the next three are the other files'."""
    pts_digest: str
    embeddings_digest: str
    detail_digest: str


@dataclass(frozen=True, slots=True)
class LatentsManifest:
    """The manifest that commits a film's latents of one model."""

    film: str
    """The film's id."""
    film_uid: str
    model: StoredModel
    time_base: Fraction
    """Seconds: the unit of all pts."""
    origin_pts: int
    """The pts of the first frame, from which times are counted."""
    end_pts: int
    """The end of the last frame."""
    rows: int
    parts: tuple[LatentsPart, ...]
    """In presentation order; never empty."""
    created: Moment
    index_rows: int = 0
    """Rows of the index arrays, about one per second; `Latents.commit` makes them and sets this."""

    def __post_init__(self) -> None:
        if not self.parts or sum(part.rows for part in self.parts) != self.rows:
            raise ValueError(f"{self.rows} rows in {len(self.parts)} parts do not add up")

    @property
    def attempt(self) -> str:
        """The attempt that made the last part, and has the index arrays."""
        return layout.attempt_of(self.parts[-1].key)

    @property
    def attempts(self) -> frozenset[str]:
        """All attempts with files in it: a resumed job keeps earlier attempts' finished parts."""
        return frozenset(layout.attempt_of(part.key) for part in self.parts)

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last."""
        return self.seconds(self.end_pts)

    def seconds(self, pts: int) -> Fraction:
        """Return a presentation time in seconds from the first frame."""
        return (pts - self.origin_pts) * self.time_base

    def starts(self) -> list[int]:
        """Return the first row of each part."""
        return [0, *accumulate(part.rows for part in self.parts[:-1])]

    def part_at(self, pts: int) -> int:
        """Return the index of the part with the last frame at or before `pts`, or 0 if none."""
        return max(0, bisect_right(self.parts, pts, key=lambda part: part.first_pts) - 1)

    def encode(self) -> bytes:
        """Return it in its stored form; raises ValueError if a part is not of these latents."""
        return _FORMAT.encode(self, folder=layout.latents_folder(self.film, self.model.digest))

    @classmethod
    def decode(cls, data: bytes, film: str, digest: str) -> "LatentsManifest":
        """Parse the manifest stored for a film and a model; raises DamagedError."""
        try:
            return _FORMAT.decode(data, folder=layout.latents_folder(film, digest), film=film)
        except UnreadableRecordError as error:
            raise DamagedError(film, f"the list of its latents {error}") from None


_FORMAT = RecordFormat(LatentsManifest)
