"""Films to a data set of model frames.

    python -m trainer prepare film.mp4 --out data/film
    python -m trainer prepare film.mp4 --out data/film --every 4
    python -m trainer prepare a.mp4 b.mkv --out data/both --per-shot 3

Frames are streamed, so memory does not grow with the film. The data set is written to a temporary
folder and renamed at the end.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from film.errors import DamagedFilmError, FilmError, TruncatedFilmError
from film.read.film_reader import FilmReader
from trainer.dataset import (
    DATASET_FILE,
    FORMAT,
    INDEX_FILE,
    FrameDataset,
    PreparedFilm,
    Shot,
    film_as_json,
)
from trainer.durable import replace_text, sync
from trainer.errors import DatasetError
from trainer.frame_store import FrameWriter
from trainer.shots import ShotDetector
from trainer.split import held_out

_BATCH = 64

OnFrames = Callable[[int, int | None], None]
"""Called after every batch with the frames read so far and an estimate of all, or None."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames of a film to sample: every n-th, or some of each shot, evenly spread."""

    every: int = 1
    per_shot: int | None = None

    def __str__(self) -> str:
        if self.per_shot is not None:
            return f"{self.per_shot} a shot"
        return "all" if self.every == 1 else f"every {self.every}"


@dataclass(slots=True)
class _FilmScan:
    """Facts collected by reading a film from end to end."""

    pts: NDArray[np.int64]
    time_base: Fraction
    end: int
    display_size: tuple[int, int]
    shot_starts: NDArray[np.int64]
    warning: str | None


def prepare(
    films: Sequence[Path], out: Path, sampling: Sampling, on_frames: OnFrames
) -> tuple[FrameDataset, list[str]]:
    """Make a data set of films' frames.

    Args:
        films: Film files, in the order of their frames in the data set.
        out: The data set's folder; must be empty or not exist.
        sampling: Which frames to take.
        on_frames: Progress callback.

    Returns:
        The data set, and warnings about truncated films, of which the readable part was taken.

    Raises:
        DatasetError: A film cannot be read at all, or the folder is not empty.
    """
    with _staging(out) as folder:
        writer = FrameWriter(folder)
        digest = hashlib.sha256()
        entries: list[PreparedFilm] = []
        shots: list[Shot] = []
        index: dict[str, list[NDArray[np.generic]]] = {"film": [], "pts": [], "held_out": []}
        warnings: list[str] = []
        for number, path in enumerate(films):
            taken, scan = _take_frames(path, sampling, writer, digest, on_frames)
            if scan.warning:
                warnings.append(scan.warning)
            entry = _entry(path, taken, scan)
            first = sum(film.frames for film in entries)
            pts = scan.pts[taken]
            entries.append(entry)
            shots.extend(_shots(number, first, taken, scan.shot_starts))
            index["film"].append(np.full(len(taken), number, np.int32))
            index["pts"].append(pts)
            index["held_out"].append(held_out(pts, entry.time_base, entry.start, entry.end))
            digest.update(f"{entry.digest} {entry.time_base} {pts.tolist()}".encode())
        places = writer.close()
        columns = {name: np.concatenate(parts) for name, parts in index.items()}
        with (folder / INDEX_FILE).open("wb") as file:
            np.savez(file, allow_pickle=False, place=places, **columns)
        sync(folder / INDEX_FILE)
        facts = {
            "format": FORMAT,
            "digest": f"sha256:{digest.hexdigest()}",
            "sampling": str(sampling),
            "frames": len(places),
            "held_out_frames": int(columns["held_out"].sum()),
            "films": [film_as_json(entry) for entry in entries],
            "shots": [[shot.film, shot.first, shot.stop] for shot in shots],
            "warnings": warnings,
        }
        replace_text(folder / DATASET_FILE, json.dumps(facts, indent=1) + "\n")
    return FrameDataset.open(out), warnings


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Yield a temporary folder, renamed to `out` on success and removed on failure."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "a prepared data set" if (out / DATASET_FILE).exists() else "something else"
        raise DatasetError(f"{out} already holds {what}: name another folder, or remove it first")
    folder = out.with_name(f".{out.name}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"{out} is being prepared by another process") from error
        for leftover in folder.iterdir():  # of a killed process
            leftover.unlink()
        try:
            yield folder
            sync(folder)
            folder.rename(out)
            sync(out.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    finally:
        os.close(lock)


def _take_frames(
    path: Path,
    sampling: Sampling,
    writer: FrameWriter,
    digest: "hashlib._Hash",
    on_frames: OnFrames,
) -> tuple[NDArray[np.int64], _FilmScan]:
    """Write the sampled frames; return their numbers within the film, and the film's facts."""
    if sampling.per_shot is None:
        wanted = None
    else:  # a shot's length is known only at its end: two passes
        scan = _scan(path, on_frames)
        wanted = _of_each_shot(scan, sampling.per_shot)

    def take(first: int, frames: NDArray[np.uint8]) -> None:
        numbers = np.arange(first, first + len(frames))
        chosen = numbers % sampling.every == 0 if wanted is None else np.isin(numbers, wanted)
        kept = np.ascontiguousarray(frames[chosen])
        digest.update(kept.data)
        writer.append(kept)

    scan = _scan(path, on_frames, take)
    if wanted is None:
        wanted = np.arange(0, len(scan.pts), sampling.every, dtype=np.int64)
    return wanted, scan


def _scan(
    path: Path,
    on_frames: OnFrames,
    take: Callable[[int, NDArray[np.uint8]], None] | None = None,
) -> _FilmScan:
    """Read a film from end to end, passing its frames to `take`."""
    detector = ShotDetector()
    pts: list[NDArray[np.int64]] = []
    duration, seen = 0, 0
    warning: str | None = None
    try:
        with path.open("rb") as file:
            reader = FilmReader(file, sound=False)
            try:
                facts = reader.facts
                for batch in reader.batches(_BATCH):
                    if not len(batch.pts):
                        continue
                    detector.add(batch.frames)
                    if take is not None:
                        take(seen, batch.frames)
                    pts.append(batch.pts)
                    duration = int(batch.durations[-1])
                    seen += len(batch.pts)
                    on_frames(seen, facts.estimated_frames)
            except (TruncatedFilmError, DamagedFilmError) as error:
                if not seen:
                    raise
                warning = f"{path.name}: {error}; took the {seen} frames before that"
            finally:
                reader.close()
    except (FilmError, OSError) as error:
        raise DatasetError(f"{path.name}: {error}") from error
    if not seen:
        raise DatasetError(f"{path.name}: it has no frames")
    times = np.concatenate(pts)
    if not duration:
        duration = int(times[-1] - times[-2]) if seen > 1 else 0
    end = int(times[-1]) + duration
    return _FilmScan(times, facts.time_base, end, facts.display_size, detector.starts(), warning)


def _of_each_shot(scan: _FilmScan, count: int) -> NDArray[np.int64]:
    stops = np.append(scan.shot_starts[1:], len(scan.pts))
    middles = (np.arange(count) + 0.5) / count
    numbers = [
        first + (middles * (stop - first)).astype(np.int64)
        for first, stop in zip(scan.shot_starts, stops, strict=True)
    ]
    return np.unique(np.concatenate(numbers))


def _shots(
    film: int, first: int, taken: NDArray[np.int64], starts: NDArray[np.int64]
) -> Iterator[Shot]:
    """Turn a film's shots into ranges of the sampled frames, leaving out empty ones."""
    bounds = first + np.append(np.searchsorted(taken, starts), len(taken))
    for begin, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if stop > begin:
            yield Shot(film, begin, stop)


def _entry(path: Path, taken: NDArray[np.int64], scan: _FilmScan) -> PreparedFilm:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return PreparedFilm(
        title=path.stem,
        digest=f"sha256:{digest}",
        time_base=scan.time_base,
        start=int(scan.pts[0]),
        end=scan.end,
        width=scan.display_size[0],
        height=scan.display_size[1],
        source_frames=len(scan.pts),
        frames=len(taken),
    )
