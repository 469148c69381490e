"""A prepared data set: the model frames of one or more films, with random access on disk.

    <folder>/dataset.json         films, shots, sampling, and a digest of all of it
    <folder>/index.npz            per frame: film, pts, held out or not, place
    <folder>/frames-00000.pack    the frames (see `trainer.frame_store`)

Written atomically by `trainer.prepare`.
"""

import copy
import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DatasetError
from trainer.frame_store import PLACE, FrameReader

FORMAT = 1
DATASET_FILE = "dataset.json"
INDEX_FILE = "index.npz"


@dataclass(frozen=True, slots=True)
class PreparedFilm:
    """A film that frames were taken from."""

    title: str
    digest: str
    """Of the film's file: "sha256:<hex>"."""
    time_base: Fraction
    """Seconds: the unit of its frames' pts."""
    start: int
    """When its first picture is shown, in `time_base`."""
    end: int
    """When its last picture ends, in `time_base`."""
    width: int
    """As displayed, in square pixels; a model frame of it is 256 wide whatever its shape."""
    height: int
    source_frames: int
    frames: int
    """How many of them were sampled."""


@dataclass(frozen=True, slots=True)
class Shot:
    """The frames between two cuts."""

    film: int
    first: int
    """The data set's index of its first frame."""
    stop: int
    """One past the index of its last frame."""


class FrameDataset:
    """Model frames on disk. Made by `open`."""

    def __init__(self, folder: Path, facts: dict[str, object], index: dict[str, object]) -> None:
        raw_films, raw_shots = facts["films"], facts["shots"]
        assert isinstance(raw_films, list) and isinstance(raw_shots, list)  # noqa: S101
        self.folder = folder
        self.digest = str(facts["digest"])
        """Of the frames, their times and their order: "sha256:<hex>"; preparing is reproducible."""
        self.sampling = str(facts["sampling"])
        """Which frames were sampled: "all", "every 4", "3 a shot"."""
        self.films = tuple(
            PreparedFilm(**{**film, "time_base": Fraction(film["time_base"])}) for film in raw_films
        )
        self.shots = tuple(Shot(*shot) for shot in raw_shots)
        self.film = np.asarray(index["film"], np.int64)
        """Which of `films` each frame is from, ``[N]``."""
        self.pts = np.asarray(index["pts"], np.int64)
        """Presentation times in the time base of the frame's film, ``[N]``."""
        self.is_held_out = np.asarray(index["held_out"], np.bool_)
        self.held_out: NDArray[np.int64] = np.flatnonzero(self.is_held_out).astype(np.int64)
        """Indices of the frames in held-out blocks, ascending; may be empty for a short film."""
        self.fitted: NDArray[np.int64] = np.flatnonzero(~self.is_held_out).astype(np.int64)
        """Indices of all other frames, ascending."""
        self._reader = FrameReader(folder, np.asarray(index["place"], PLACE))

    @classmethod
    def open(cls, folder: Path | str) -> "FrameDataset":
        """Open a prepared data set.

        Raises:
            DatasetError: There is none, or its format is not supported.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / DATASET_FILE).read_text("utf-8"))
            with np.load(folder / INDEX_FILE) as arrays:
                index: dict[str, object] = dict(arrays)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DatasetError(
                f"{folder} holds no prepared data set: make one with "
                f"`python -m trainer prepare FILM --out {folder}`"
            ) from error
        except (OSError, ValueError) as error:
            raise DatasetError(f"The data set in {folder} is damaged: {error}") from error
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise DatasetError(f"The data set in {folder} has another format: prepare it again")
        return cls(folder, facts, index)

    def __len__(self) -> int:
        return len(self.pts)

    def frames(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the frames at these indices, in their order, uint8 ``[N, 144, 256, 3]``.

        Decodes on all cores; thread-safe.

        Raises:
            DatasetError: A frame is damaged.
        """
        return self._reader.read(indices)

    def with_all_fitted(self) -> "FrameDataset":
        """Return the same data set with nothing held out."""
        everything = copy.copy(self)
        everything.is_held_out = np.zeros(len(self), np.bool_)
        everything.held_out = np.zeros(0, np.int64)
        everything.fitted = np.arange(len(self), dtype=np.int64)
        return everything

    def seconds(self, index: int) -> Fraction:
        """Return when a frame is shown, in seconds from its film's first frame."""
        film = self.films[int(self.film[index])]
        return (int(self.pts[index]) - film.start) * film.time_base

    def close(self) -> None:
        """Close the files."""
        self._reader.close()


def film_as_json(film: PreparedFilm) -> dict[str, object]:
    """Return a film's entry in `dataset.json`."""
    return {**asdict(film), "time_base": str(film.time_base)}
