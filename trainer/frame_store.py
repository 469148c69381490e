"""Model frames on disk: lossless WebP, one after another in pack files of a few hundred MB.

A frame of Big Buck Bunny takes about 45 KB (raw: 110,592 bytes) and 0.8 ms to read at random. PNG
takes an eighth more space; lossless H.264 a third of the space, but 3 to 25 times the time, since
its frames depend on each other.
"""

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from trainer.errors import DatasetError

_PACK_BYTES = 256 * 1024 * 1024

# Where each frame is stored: number of the pack file; offset and length in bytes.
PLACE = np.dtype([("pack", np.int32), ("offset", np.int64), ("length", np.int32)])


def pack_path(folder: Path, number: int) -> Path:
    """Name a pack file."""
    return folder / f"frames-{number:05}.pack"


def threads_at_hand() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0))


class FrameWriter:
    """Appends frames to a folder's pack files; compresses on all cores."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: io.BufferedWriter | None = None
        self._pack = -1
        self._places: list[tuple[int, int, int]] = []
        self._pool = ThreadPoolExecutor(threads_at_hand())

    def append(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        """Append frames, each uint8 ``[144, 256, 3]``."""
        for data in self._pool.map(_compress, frames):
            if self._file is None or self._file.tell() + len(data) > _PACK_BYTES:
                self._next_pack()
            assert self._file is not None  # noqa: S101 (for the type checker)
            self._places.append((self._pack, self._file.tell(), len(data)))
            self._file.write(data)

    def close(self) -> NDArray[np.void]:
        """Fsync everything and return each frame's place, `PLACE` ``[N]``."""
        self._pool.shutdown()
        self._finish_pack()
        return np.array(self._places, dtype=PLACE)

    def _next_pack(self) -> None:
        self._finish_pack()
        self._pack += 1
        self._file = pack_path(self._folder, self._pack).open("wb")

    def _finish_pack(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


class FrameReader:
    """Random access to a folder's pack files; decodes on all cores.

    Thread-safe. Must not be used before a fork.
    """

    def __init__(self, folder: Path, places: NDArray[np.void]) -> None:
        self._folder = folder
        self._places = places
        self._files: dict[int, int] = {}
        self._pool: ThreadPoolExecutor | None = None

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the frames at these positions, uint8 ``[N, 144, 256, 3]``."""
        frames = np.empty((len(indices), MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3), np.uint8)

        def read_one(row: int) -> None:
            frames[row] = self._one(int(indices[row]))

        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads_at_hand())
        list(self._pool.map(read_one, range(len(indices))))
        return frames

    def close(self) -> None:
        """Close the pack files."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        while self._files:
            os.close(self._files.popitem()[1])

    def _one(self, index: int) -> NDArray[np.uint8]:
        pack, offset, length = self._places[index].item()
        data = os.pread(self._descriptor(pack), length, offset)
        try:
            with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise DatasetError(f"Frame {index} of the data set is damaged: {error}") from error

    def _descriptor(self, pack: int) -> int:
        descriptor = self._files.get(pack)
        if descriptor is None:
            opened = os.open(pack_path(self._folder, pack), os.O_RDONLY)
            descriptor = self._files.setdefault(pack, opened)
            if descriptor != opened:  # another thread was faster
                os.close(opened)
        return descriptor


def _compress(frame: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    # The fastest method: slower ones save 2 to 7 %.
    Image.fromarray(frame).save(data, "WEBP", lossless=True, method=0, quality=20, exact=True)
    return data.getvalue()
