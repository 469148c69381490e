"""The manifest of a film's latents: every part with its rows and times, and how it lies in JSON."""

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import accumulate
from typing import Any

from service.library import layout
from service.library.stored_model import StoredModel
from service.library.verified_reads import DamagedError

VERSION = 1
"""Of the JSON; one that is newer is not read."""


@dataclass(frozen=True, slots=True)
class LatentsPart:
    """Consecutive rows in four files: latents, and beside them times, embeddings and detail."""

    key: str
    """Of the latents' file, "…/<attempt>/NNNNNN.npy"."""
    rows: int
    first_pts: int
    last_pts: int
    """Of its last row: not the end of that frame."""
    digest: str
    """SHA-256 of the latents' file, 64 hexadecimal digits; likewise the other three."""
    pts_digest: str
    embeddings_digest: str
    detail_digest: str

    def to_json(self) -> dict[str, object]:
        """Return it as JSON holds it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LatentsPart":
        """Return what `to_json` made JSON of; raises KeyError, TypeError or ValueError."""
        return cls(
            str(data["key"]),
            int(data["rows"]),
            int(data["first_pts"]),
            int(data["last_pts"]),
            str(data["digest"]),
            str(data["pts_digest"]),
            str(data["embeddings_digest"]),
            str(data["detail_digest"]),
        )


@dataclass(frozen=True, slots=True)
class LatentsManifest:
    """A film's latents of one model, whole: what readers go by."""

    film: str
    """The film's id."""
    film_uid: str
    model: StoredModel
    time_base: Fraction
    """Seconds: the unit of all pts."""
    origin_pts: int
    """Of the first frame: times are counted from there."""
    end_pts: int
    """The end of the last frame."""
    rows: int
    parts: tuple[LatentsPart, ...]
    """In presentation order; never empty."""
    created: datetime
    index_rows: int = 0
    """Rows of the index arrays, about one a second; `Latents.commit` makes them and sets this."""

    def __post_init__(self) -> None:
        if not self.parts or sum(part.rows for part in self.parts) != self.rows:
            raise ValueError(f"{self.rows} rows in {len(self.parts)} parts do not add up")

    @property
    def attempt(self) -> str:
        """The attempt that made the last part, and keeps the index arrays."""
        return self.parts[-1].key.split("/")[-2]

    @property
    def attempts(self) -> frozenset[str]:
        """All whose files these are: one that goes on keeps what was finished before it."""
        return frozenset(part.key.split("/")[-2] for part in self.parts)

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
        """Return which part holds the last frame at or before `pts`; the first for an earlier."""
        return max(0, bisect_right(self.parts, pts, key=lambda part: part.first_pts) - 1)

    def encode(self) -> bytes:
        """Return it as stored."""
        folder = layout.latents_folder(self.film, self.model.digest)
        parts = []
        for part in self.parts:
            if not part.key.startswith(folder):
                raise ValueError("a part is not one of these latents")
            parts.append(part.to_json() | {"key": part.key.removeprefix(folder)})
        return json.dumps(
            {
                "version": VERSION,
                "film": self.film,
                "film_uid": self.film_uid,
                "model": self.model.to_json(),
                "time_base": str(self.time_base),
                "origin_pts": self.origin_pts,
                "end_pts": self.end_pts,
                "rows": self.rows,
                "parts": parts,
                "created": self.created.isoformat(),
                "index_rows": self.index_rows,
            }
        ).encode()

    @classmethod
    def decode(cls, data: bytes, film: str, digest: str) -> "LatentsManifest":
        """Return what was stored for a film and a model; raises DamagedError."""
        folder = layout.latents_folder(film, digest)
        try:
            found = json.loads(data)
            if found["version"] != VERSION:
                raise DamagedError(film, "the list of its latents is of a version unknown here")
            return cls(
                film,
                found["film_uid"],
                StoredModel.from_json(found["model"]),
                Fraction(found["time_base"]),
                found["origin_pts"],
                found["end_pts"],
                found["rows"],
                tuple(
                    LatentsPart.from_json(part | {"key": folder + part["key"]})
                    for part in found["parts"]
                ),
                datetime.fromisoformat(found["created"]),
                found["index_rows"],
            )
        except (KeyError, TypeError, ValueError):
            raise DamagedError(film, "the list of its latents cannot be read") from None
