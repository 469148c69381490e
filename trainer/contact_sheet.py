"""The picture that made the original famous: frames of a film above their reconstructions.

Pairs are taken at even steps through the film, left to right.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

COLUMNS = 6
ROWS = 8
SHEET_PAIRS = COLUMNS * ROWS

_TILE = 256
_MARGIN = 72
_GUTTER = 18
# Pixels between a picture and its reconstruction.
_SEAM = 3
_LABEL = 30
_ROW_GAP = 14
_HEADER = 92
PAPER = (16, 16, 18)
INK = (232, 230, 226)
FAINT = (134, 132, 128)


@dataclass(frozen=True, slots=True)
class Pair:
    """A frame and its reconstruction."""

    source: NDArray[np.uint8]
    """Model frame, ``[144, 256, 3]``."""
    reconstruction: NDArray[np.uint8]
    time: Fraction
    """Seconds from the film's start."""
    shape: tuple[int, int]
    """The film's width and height as displayed."""


def draw_sheet(pairs: Iterable[Pair], count: int, path: Path, *, title: str, note: str) -> None:
    """Draw a sheet of `count` pairs; the file's suffix selects the format.

    Every picture is drawn at its film's aspect ratio, as wide as a model frame.
    """
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    ready = list(pairs)
    height = max(_height(pair) for pair in ready)
    pitch = 2 * height + _SEAM + _LABEL + _ROW_GAP
    width = 2 * _MARGIN + columns * _TILE + (columns - 1) * _GUTTER
    sheet = Image.new("RGB", (width, _MARGIN + _HEADER + rows * pitch - _ROW_GAP + _MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 8), title, INK, ImageFont.load_default(40))
    draw.text((_MARGIN, _MARGIN + 44), note, FAINT, ImageFont.load_default(20))
    label = ImageFont.load_default(17)
    for number, pair in enumerate(ready):
        row, column = divmod(number, columns)
        left = _MARGIN + column * (_TILE + _GUTTER)
        top = _MARGIN + _HEADER + row * pitch
        own = _height(pair)
        sheet.paste(_picture(pair.source, own), (left, top))
        sheet.paste(_picture(pair.reconstruction, own), (left, top + own + _SEAM))
        draw.text((left, top + 2 * own + _SEAM + 6), clock(pair.time), FAINT, label)
    staged = path.with_name(f".{path.name}")
    sheet.save(staged, format=Image.registered_extensions()[path.suffix], quality=92)
    staged.replace(path)


def clock(seconds: Fraction) -> str:
    """Write a time as h:mm:ss or m:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _height(pair: Pair) -> int:
    width, height = pair.shape
    return max(1, round(_TILE * height / width))


def _picture(frame: NDArray[np.uint8], height: int) -> Image.Image:
    image = Image.fromarray(frame)
    if image.height == height:
        return image
    return image.resize((_TILE, height), Image.Resampling.LANCZOS)
