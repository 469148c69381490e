"""How large are the trainer's prepared frames, and how fast are they read?

Lossless WebP in pack files, as `trainer.frame_store` writes it, against PNG files and one raw .npy:
bytes a frame, and the time to read all frames in order and in random order, in batches.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.environment import Environment
from benchmarks.report import Report, Row, Table
from benchmarks.rounds import Ratio, Times, interleave, ratio
from trainer.frame_store import FrameReader, FrameWriter, threads_at_hand

BATCH = 64
WEBP, PNG, RAW = "lossless WebP in packs (the trainer's)", "PNG files", "raw .npy, mapped"

Read = Callable[[NDArray[np.int64]], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    frames: int = 720
    rounds: int = 5


def run(environment: Environment, plan: Plan | None = None) -> Report:
    """Store frames of the film three times, and read them back."""
    plan = plan or Plan()
    frames = environment.frames(plan.frames)
    folders = {
        name: environment.folder / str(number) for number, name in enumerate((WEBP, PNG, RAW))
    }
    for folder in folders.values():
        folder.mkdir()
    with ThreadPoolExecutor(threads_at_hand()) as pool:
        webp = _store_webp(folders[WEBP], frames)
        stores: dict[str, Read] = {
            WEBP: webp.read,
            PNG: _store_png(folders[PNG], frames, pool),
            RAW: _store_raw(folders[RAW], frames),
        }
        in_order = np.arange(len(frames), dtype=np.int64)
        shuffled = np.random.default_rng(0).permutation(in_order)
        for name, read in stores.items():
            if not np.array_equal(read(shuffled[:BATCH]), frames[shuffled[:BATCH]]):
                raise AssertionError(f"{name}: other frames were read than stored")
        sequential = interleave(_reads(stores, in_order), plan.rounds)
        random = interleave(_reads(stores, shuffled), plan.rounds)
        webp.close()
    sizes = {name: _bytes(folder) / len(frames) for name, folder in folders.items()}
    return Report(
        name="frame_store",
        title="Prepared frames on disk",
        question=(
            f"How large are {len(frames)} model frames of Big Buck Bunny in the trainer's store, "
            "and how fast are they read, against two common formats? Read on all "
            f"cores in batches of {BATCH}, from the page cache; {plan.rounds} rounds."
        ),
        tables=(
            _size_table(sizes),
            _read_table("Reading in order", sequential, len(frames)),
            _read_table("Reading in random order", random, len(frames)),
        ),
    )


def _store_webp(folder: Path, frames: NDArray[np.uint8]) -> FrameReader:
    writer = FrameWriter(folder)
    writer.append(frames)
    return FrameReader(folder, writer.close())


def _store_png(folder: Path, frames: NDArray[np.uint8], pool: ThreadPoolExecutor) -> Read:
    def path(index: int) -> Path:
        return folder / f"{index:06}.png"

    def save(index: int) -> None:
        Image.fromarray(frames[index]).save(path(index))

    def load(index: np.int64) -> NDArray[np.uint8]:
        with Image.open(path(int(index))) as image:
            return np.asarray(image)

    def read(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack(list(pool.map(load, indices)))

    list(pool.map(save, range(len(frames))))
    return read


def _store_raw(folder: Path, frames: NDArray[np.uint8]) -> Read:
    path = folder / "frames.npy"
    np.save(path, frames)
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r")

    def read(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.asarray(mapped[indices])

    return read


def _reads(stores: dict[str, Read], indices: NDArray[np.int64]) -> dict[str, Callable[[], object]]:
    def all_of(read: Read) -> Callable[[], object]:
        def run() -> None:
            for first in range(0, len(indices), BATCH):
                read(indices[first : first + BATCH])

        return run

    return {name: all_of(read) for name, read in stores.items()}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _size_table(sizes: dict[str, float]) -> Table:
    rows = []
    for name, size in sizes.items():
        share = size / sizes[WEBP]
        rows.append(Row(name, Ratio(share, share, share), (f"{size:,.0f}",)))
    return Table("Size", "size to WebP's", ("bytes a frame",), tuple(rows))


def _read_table(title: str, times: Times, frames: int) -> Table:
    rows = []
    for name, seconds in times.items():
        each = median(seconds) / frames
        figures = (f"{each * 1000:.3f}", f"{1 / each:,.0f}")
        rows.append(Row(name, ratio(seconds, times[WEBP]), figures))
    return Table(title, "time to WebP's", ("ms a frame", "frames a second"), tuple(rows))
