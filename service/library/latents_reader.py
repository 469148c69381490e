"""Lazy reads of a film's latents by row and by time."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import grpc
import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from service.errors import ClientSideError, Resource
from service.library.latents_manifest import LatentsManifest, LatentsPart
from service.library.verified_reads import checked, exact_bytes, exact_pieces
from service.storage.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class NpyKind:
    """NumPy files of one element type and row shape, which differ only in the number of rows.

    Version 1.0 of the format, little-endian, in C order: byte-identical to `np.save`.
    """

    suffix: str
    """Suffix of the file names, after the part's number."""
    dtype: np.dtype[np.generic]
    """Little-endian."""
    row_shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * math.prod(self.row_shape)

    def header(self, rows: int) -> bytes:
        """Return the header of a file with `rows` rows."""
        buffer = io.BytesIO()
        description = dtype_to_descr(self.dtype)
        shape = (rows, *self.row_shape)
        write_array_header_1_0(
            buffer, {"descr": description, "fortran_order": False, "shape": shape}
        )
        return buffer.getvalue()

    def encode(self, array: NDArray[np.generic]) -> bytes:
        """Return the file of an array [N, *row_shape], converted to the element type.

        Raises ValueError if the shape differs.
        """
        if array.shape[1:] != self.row_shape or array.ndim != 1 + len(self.row_shape):
            raise ValueError(f"expected [N, {self.row_shape}], got {list(array.shape)}")
        return self.header(len(array)) + array.astype(self.dtype).tobytes()

    def decode(self, data: bytes) -> NDArray[np.generic]:
        """Return rows [N, *row_shape] from their bytes, without a header; read-only."""
        return np.frombuffer(data, self.dtype).reshape(-1, *self.row_shape)


LATENT_SIZE: Final = 200
LATENTS = NpyKind(".npy", np.dtype("<f4"), (LATENT_SIZE,))
PTS = NpyKind(".pts.npy", np.dtype("<i8"), ())
EMBEDDINGS = NpyKind(".embeddings.npy", np.dtype("<f2"), (LATENT_SIZE,))
DETAIL = NpyKind(".detail.npy", np.dtype("<f4"), ())
_NAMES = {LATENTS: "latents", PTS: "times", EMBEDDINGS: "embeddings", DETAIL: "detail"}


TIME_TOLERANCE = Fraction(1, 1_000_000)
"""Seconds. Many clients round times to microseconds: both 0.666666 and 0.666667 mean the frame
that begins at 2/3 s."""


class TimeOutOfRangeError(ClientSideError):
    """A time before the film's first frame or after its end."""

    code = grpc.StatusCode.OUT_OF_RANGE
    reason = "TIME_OUT_OF_RANGE"


@dataclass(frozen=True, slots=True)
class LatentsChunk:
    """Some rows, all from one part."""

    rows: NDArray[np.int64]
    """Row numbers in the film, [N]."""
    pts: NDArray[np.int64]
    """[N]"""
    latents: NDArray[np.float32]
    """[N, 200]"""
    embeddings: NDArray[np.float32] | None
    """[N, 200] if requested."""


class LatentsReader:
    """Reads rows of committed latents. Blocking and thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def latents(self, manifest: LatentsManifest, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows `start` up to `stop`, [N, 200]; raises DamagedError, as do the next."""
        return self._rows(manifest, LATENTS, start, stop).astype(np.float32, copy=False)

    def embeddings(self, manifest: LatentsManifest, start: int, stop: int) -> NDArray[np.float32]:
        """Return embeddings, [N, 200]."""
        return self._rows(manifest, EMBEDDINGS, start, stop).astype(np.float32)

    def pts(self, manifest: LatentsManifest, start: int, stop: int) -> NDArray[np.int64]:
        """Return presentation times, [N]."""
        return self._rows(manifest, PTS, start, stop).astype(np.int64, copy=False)

    def detail(self, manifest: LatentsManifest, start: int, stop: int) -> NDArray[np.float32]:
        """Return how much there is to see, [N]."""
        return self._rows(manifest, DETAIL, start, stop).astype(np.float32, copy=False)

    def parts(
        self,
        manifest: LatentsManifest,
        start: int = 0,
        stop: int | None = None,
        *,
        stride: int = 1,
        embeddings: bool = False,
    ) -> Iterator[LatentsChunk]:
        """Yield every `stride`-th row from `start` up to `stop`, part by part.

        Parts without such rows are not read. Raises DamagedError.
        """
        stop = manifest.rows if stop is None else stop
        for number, first in enumerate(manifest.starts()):
            low, high = max(first, start), min(first + manifest.parts[number].rows, stop)
            low += (start - low) % stride
            if low >= high:
                continue
            wanted = slice(low - first, high - first)
            yield LatentsChunk(
                np.arange(low, high, stride, dtype=np.int64),
                self.in_part(manifest, PTS, number, wanted)[::stride].astype(np.int64),
                self.in_part(manifest, LATENTS, number, wanted)[::stride].astype(np.float32),
                self.in_part(manifest, EMBEDDINGS, number, wanted)[::stride].astype(np.float32)
                if embeddings
                else None,
            )

    def npy_size(self, manifest: LatentsManifest) -> int:
        """Return the size of all latents as one .npy file, float32 [rows, 200]."""
        return len(LATENTS.header(manifest.rows)) + manifest.rows * LATENTS.row_bytes

    def npy_bytes(
        self, manifest: LatentsManifest, start: int = 0, size: int | None = None
    ) -> Iterator[bytes]:
        """Yield that file's bytes from `start` on, at most `size`; raises DamagedError.

        Assembled on the fly from a header and the parts' rows.
        """
        total = self.npy_size(manifest)
        stop = total if size is None else min(total, start + size)
        header = LATENTS.header(manifest.rows)
        if start < min(stop, len(header)):
            yield header[start:stop]
        at = len(header)
        for number, part in enumerate(manifest.parts):
            end = at + part.rows * LATENTS.row_bytes
            low, high = max(start, at), min(stop, end)
            if low < high:
                yield from self._part_bytes(manifest, LATENTS, number, low - at, high - at)
            at = end

    def row_at(self, manifest: LatentsManifest, seconds: Fraction) -> int:
        """Return the row of the frame that is shown at a time, in seconds from the first frame.

        At the film's very end that is the last; times are compared within TIME_TOLERANCE. Raises
        TimeOutOfRangeError or DamagedError.
        """
        if not 0 <= seconds <= manifest.duration + TIME_TOLERANCE:
            raise time_out_of_range(manifest, seconds)
        ticks = (seconds + TIME_TOLERANCE) // manifest.time_base
        return self._rows_until(manifest, manifest.origin_pts + ticks) - 1

    def rows_between(
        self, manifest: LatentsManifest, start: Fraction | None, stop: Fraction | None
    ) -> tuple[int, int]:
        """Return the first row, and the one after the last, of frames that begin in a time range.

        Both times are compared within TIME_TOLERANCE.

        Args:
            manifest: the film's manifest.
            start: seconds from the first frame; None: from the beginning.
            stop: seconds from the first frame, exclusive; None: to the end.

        Returns:
            The same row twice if none begins in the range.
        """
        low, high = 0, manifest.rows
        if start is not None and start > 0:
            low = self._rows_before(manifest, start)
        if stop is not None and stop < manifest.duration:
            high = self._rows_before(manifest, stop)
        return low, max(low, high)

    def _rows_before(self, manifest: LatentsManifest, seconds: Fraction) -> int:
        """Return how many frames begin before a time."""
        # -(-a // b) rounds up. The frame at exactly this time is not before it.
        pts = manifest.origin_pts - (-(seconds - TIME_TOLERANCE) // manifest.time_base)
        return self._rows_until(manifest, pts - 1)

    def _rows_until(self, manifest: LatentsManifest, pts: int) -> int:
        """Return how many frames begin at or before `pts`, reading the times of one part."""
        if pts < manifest.origin_pts:
            return 0
        number = manifest.part_at(pts)
        first, part = manifest.starts()[number], manifest.parts[number]
        if pts >= part.last_pts:
            return first + part.rows
        times = self.in_part(manifest, PTS, number, slice(0, part.rows))
        return first + int(np.searchsorted(times, pts, side="right"))

    def _rows(
        self, manifest: LatentsManifest, kind: NpyKind, start: int, stop: int
    ) -> NDArray[np.generic]:
        if not 0 <= start <= stop <= manifest.rows:
            raise ValueError(f"rows {start} to {stop} of {manifest.rows}")
        found = [np.empty((0, *kind.row_shape), kind.dtype)]
        for number, first in enumerate(manifest.starts()):
            low, high = max(first, start), min(first + manifest.parts[number].rows, stop)
            if low < high:
                found.append(self.in_part(manifest, kind, number, slice(low - first, high - first)))
        return np.concatenate(found)

    def in_part(
        self, manifest: LatentsManifest, kind: NpyKind, number: int, rows: slice
    ) -> NDArray[np.generic]:
        """Return some rows of a part (counted from 0)."""
        start, stop = rows.start * kind.row_bytes, rows.stop * kind.row_bytes
        return kind.decode(b"".join(self._part_bytes(manifest, kind, number, start, stop)))

    def _part_bytes(
        self, manifest: LatentsManifest, kind: NpyKind, number: int, start: int, stop: int
    ) -> Iterator[bytes]:
        """Yield part bytes, counted from the first row; if all are read, verify the digest."""
        part = manifest.parts[number]
        header = kind.header(part.rows)
        film, what = manifest.film, f"part {number + 1} of its {_NAMES[kind]}"
        pieces = exact_pieces(
            self._store,
            beside(part.key, kind),
            len(header) + start,
            stop - start,
            film=film,
            what=what,
        )
        if stop - start < part.rows * kind.row_bytes:
            return pieces
        return checked(pieces, _digest(part, kind), beginning=header, film=film, what=what)

    def array(
        self, film: str, key: str, kind: NpyKind, rows: int, what: str
    ) -> NDArray[np.generic]:
        """Return a whole file's array of `rows` rows; `what` describes it in the DamagedError."""
        start = len(kind.header(rows))
        return kind.decode(
            exact_bytes(self._store, key, start, rows * kind.row_bytes, film=film, what=what)
        )


def time_out_of_range(manifest: LatentsManifest, seconds: Fraction) -> TimeOutOfRangeError:
    """Return the error for a time outside a film, with the film's duration."""
    name, duration = f"films/{manifest.film}", _readable(manifest.duration)
    return TimeOutOfRangeError(
        f"{_readable(seconds)} s is outside of {name}, which lasts from 0 to {duration} s",
        resource=Resource("film", name),
        metadata={"film": name, "duration_seconds": duration},
    )


def beside(key: str, kind: NpyKind) -> str:
    """Return the key of a part's file of another kind, given the key of its latents."""
    return key.removesuffix(LATENTS.suffix) + kind.suffix


def _digest(part: LatentsPart, kind: NpyKind) -> str:
    return {
        LATENTS: part.digest,
        PTS: part.pts_digest,
        EMBEDDINGS: part.embeddings_digest,
        DETAIL: part.detail_digest,
    }[kind]


def _readable(seconds: Fraction) -> str:
    return f"{float(seconds):.6f}".rstrip("0").rstrip(".")
