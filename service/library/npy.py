"""NumPy's file format, version 1.0: little-endian, C order. What `np.save` writes, to the byte."""

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import DTypeLike, NDArray


def npy_header(dtype: DTypeLike, shape: tuple[int, ...]) -> bytes:
    """Return the bytes before an array's own."""
    buffer = io.BytesIO()
    write_array_header_1_0(
        buffer,
        {
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
            "fortran_order": False,
            "shape": shape,
        },
    )
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class NpyKind:
    """Files of one element type and row shape, which differ only in the number of rows."""

    suffix: str
    """How their names end, after the part's number."""
    dtype: np.dtype[np.generic]
    """Little-endian."""
    row_shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * math.prod(self.row_shape)

    def header(self, rows: int) -> bytes:
        """Return the beginning of a file of `rows` rows."""
        return npy_header(self.dtype, (rows, *self.row_shape))

    def encode(self, array: NDArray[np.generic]) -> bytes:
        """Return the file of an array [N, *row_shape], converted to the element type.

        Raises ValueError where the shape is another.
        """
        if array.shape[1:] != self.row_shape or array.ndim != 1 + len(self.row_shape):
            raise ValueError(f"expected [N, {self.row_shape}], got {list(array.shape)}")
        return self.header(len(array)) + array.astype(self.dtype).tobytes()

    def decode(self, data: bytes) -> NDArray[np.generic]:
        """Return rows [N, *row_shape] of their bytes, without a header; read-only."""
        return np.frombuffer(data, self.dtype).reshape(-1, *self.row_shape)
