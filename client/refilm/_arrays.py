"""numpy's file formats, written in one pass and read without numpy.

A reconstruction's latents are written as they arrive, so memory does not grow with the film;
numpy itself writes whole arrays only, and is optional here.
"""

from __future__ import annotations

import ast
import struct
import sys
import zipfile
from array import array
from pathlib import Path
from typing import IO, Any

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER_BYTES = 128
_CODES = {"<f4": "f", "<f8": "d", "<i8": "q"}
MEMBER_LATENTS = "latents"


def header(kind: str, shape: tuple[int, ...]) -> bytes:
    """Returns the 128 bytes before an array's data, for a `kind` such as "<f4"."""
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode("latin1")
    room = _HEADER_BYTES - len(_MAGIC) - 2
    return _MAGIC + struct.pack("<H", room) + text.ljust(room - 1) + b"\n"


def to_bytes(values: array[Any]) -> bytes:
    """Returns an array's data, little-endian."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def npy(values: array[Any], shape: tuple[int, ...] | None = None) -> bytes:
    """Returns the .npy file of an `array` of type "f", "d" or "q"; flat, or of a shape."""
    kind = {code: kind for kind, code in _CODES.items()}[values.typecode]
    return header(kind, (len(values),) if shape is None else shape) + to_bytes(values)


def npy_text(text: str) -> bytes:
    """Returns the .npy file of one string."""
    return header(f"<U{max(1, len(text))}", ()) + (text or "\0").encode("utf-32-le")


def read_npy(file: IO[bytes]) -> tuple[array[Any], tuple[int, ...]]:
    """Returns the numbers and the shape of a .npy file.

    Raises:
        ValueError: It is not a .npy file, or holds anything but float32, float64 or int64 in C
            order, or is truncated.
    """
    start = file.read(8)
    if start[:6] != _MAGIC[:6] or start[6:7] not in (b"\x01", b"\x02"):
        raise ValueError("this is no .npy file")
    length_format = "<H" if start[6] == 1 else "<I"
    try:
        (length,) = struct.unpack(length_format, file.read(struct.calcsize(length_format)))
        facts = ast.literal_eval(file.read(length).decode("latin1"))
        kind, fortran, shape = facts["descr"], facts["fortran_order"], facts["shape"]
    except (struct.error, SyntaxError, ValueError, KeyError, TypeError) as error:
        raise ValueError("this .npy file's header is damaged") from error
    if kind not in _CODES or fortran:
        raise ValueError("the array is float32, float64 or int64 in C order, or cannot be read")
    values = array(_CODES[kind])
    data = file.read()
    count = 1
    for length in shape:
        count *= length
    if len(data) != count * values.itemsize:
        raise ValueError("this .npy file is truncated")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values, shape


def read_npy_text(data: bytes) -> str:
    """Returns the string of a .npy file as `npy_text` and numpy write it."""
    return data[_HEADER_BYTES:].decode("utf-32-le").rstrip("\0")


def load_latents(path: Path) -> tuple[list[array[Any]], dict[str, str]]:
    """Returns the latents of a .npy or .npz file, and what a .npz says about the model.

    Raises:
        ValueError: The file holds no latents.
        OSError: It cannot be read.
    """
    names: dict[str, str] = {}
    if path.suffix == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                with archive.open(f"{MEMBER_LATENTS}.npy") as member:
                    values, shape = read_npy(member)
                for name in ("model", "digest"):
                    if f"{name}.npy" in archive.namelist():
                        names[name] = read_npy_text(archive.read(f"{name}.npy"))
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path.name} is no .npz file") from error
        except KeyError as error:
            raise ValueError(f"{path.name} holds no array named {MEMBER_LATENTS}") from error
    else:
        with path.open("rb") as file:
            values, shape = read_npy(file)
    if values.typecode == "q" or len(shape) not in (1, 2):
        raise ValueError(f"{path.name} holds no latents: they are floats, [200] or [N, 200]")
    width = shape[-1]
    if not width or not len(values):
        raise ValueError(f"{path.name} is empty")
    return [values[start : start + width] for start in range(0, len(values), width)], names
