"""Comparison pictures: the same frames through all models and codecs, side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.quality.measured_film import Film
from trainer.contact_sheet import FAINT, INK, PAPER, Pair, clock, draw_sheet

_WIDTH = 256
_MARGIN = 24
_GAP = 6
_LABEL = 40
_QUALITY = 88

Column = tuple[str, NDArray[np.uint8]]
"""The label and the reconstructions, uint8 ``[N, 144, 256, 3]``."""


def side_by_side(
    film: Film, indices: NDArray[np.int64], columns: Sequence[Column], path: Path
) -> None:
    """Draw a row for each frame: the source first, then every column."""
    height = _height(film)
    everything = [("film", film.data.frames(indices)), *columns]
    width = 2 * _MARGIN + len(everything) * (_WIDTH + _GAP) - _GAP
    rows = len(indices) * (height + _GAP) - _GAP
    picture = Image.new("RGB", (width, _MARGIN + _LABEL + rows + _MARGIN), PAPER)
    draw = ImageDraw.Draw(picture)
    for column, (name, frames) in enumerate(everything):
        left = _MARGIN + column * (_WIDTH + _GAP)
        draw.text((left, _MARGIN), name, INK if column == 0 else FAINT, ImageFont.load_default(19))
        for row, frame in enumerate(frames):
            top = _MARGIN + _LABEL + row * (height + _GAP)
            picture.paste(Image.fromarray(frame).resize((_WIDTH, height)), (left, top))
    for row, index in enumerate(indices.tolist()):
        bottom = _MARGIN + _LABEL + row * (height + _GAP) + height
        place = (_MARGIN + 6, bottom - 24)
        draw.text(
            *(place, clock(film.data.seconds(index)), INK, ImageFont.load_default(17)),
            stroke_width=2,
            stroke_fill=PAPER,
        )
    _save(picture, path)


def sheet(
    film: Film, indices: NDArray[np.int64], made: NDArray[np.uint8], path: Path, note: str
) -> None:
    """Draw frames above their reconstructions, as the trainer's contact sheet."""
    shape = (film.data.films[0].width, film.data.films[0].height)
    pairs = [
        Pair(source, result, film.data.seconds(index), shape)
        for source, result, index in zip(
            film.data.frames(indices), made, indices.tolist(), strict=True
        )
    ]
    draw_sheet(pairs, len(pairs), path, title=film.title, note=note)


def _height(film: Film) -> int:
    return max(1, round(_WIDTH * film.data.films[0].height / film.data.films[0].width))


def _save(picture: Image.Image, path: Path) -> None:
    staged = path.with_name(f".{path.name}")
    picture.save(staged, format=Image.registered_extensions()[path.suffix], quality=_QUALITY)
    staged.replace(path)
