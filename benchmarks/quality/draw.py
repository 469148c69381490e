"""Draws a film's pictures for the page, and says what each shows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import comparison, plots
from benchmarks.quality.codecs import AV1, X264
from benchmarks.quality.collect import BITS, EQUAL_BYTES, OF_ALL, Findings
from benchmarks.quality.measurer import Measurer, pictures_of_coded
from benchmarks.quality.page import minutes_image, rate_image, slug
from trainer.evaluate import sheet_indices
from trainer.sampler import spread

_ROWS = 8

Image = tuple[str, str]
"""What it shows, and its file's name."""


def draw(
    found: Findings, measurer: Measurer, folder: Path, say: Callable[[str], None]
) -> list[Image]:
    """Draw everything of a film; return what goes to the end of the page."""
    say(f"{found.film.title}: drawing")
    folder.mkdir(parents=True, exist_ok=True)
    title = found.film.title
    codecs = (X264.name, AV1.name)
    plots.rate_curve(found.rates, folder / rate_image(found), title=title, codecs=codecs)
    if found.minutes:
        plots.training_curve(
            found.minutes,
            found.memory_minutes,
            {"PCA-200, the same frames": found.preview_pca},
            folder / minutes_image(found),
            title=title,
        )
    images = [_compare(found, measurer, folder)]
    shown = [name for name in OF_ALL.values() if name in found.models]
    for name in shown or ["PCA-200"]:
        images += _sheets(found, name, measurer, folder)
    return images


def _compare(found: Findings, measurer: Measurer, folder: Path) -> Image:
    """Draw frames in even steps through everything, at equal bytes."""
    film = found.film
    indices = spread(np.arange(len(film.data)), _ROWS)
    columns = [
        (name, measurer.pictures_of_model(model, film, BITS, indices))
        for name, model in found.models.items()
    ]
    for name in (X264.name, AV1.name):
        columns.append((name, pictures_of_coded(found.codecs[name], film, indices)))
    name = f"quality_{slug(found)}_side_by_side.jpg"
    comparison.side_by_side(film, indices, columns, folder / name)
    return (
        f"the same frames through everything, {EQUAL_BYTES} bytes a frame without the decoder",
        name,
    )


def _sheets(found: Findings, name: str, measurer: Measurer, folder: Path) -> list[Image]:
    """Draw a model's contact sheet and its worst frames, each above what was remembered of it."""
    film, model = found.film, found.models[name]
    figures = next(
        one for one in found.memory if one.name == name and one.bytes_a_frame == EQUAL_BYTES
    )
    note = f"{name} · {EQUAL_BYTES} bytes a frame, the decoder not among them"
    images = []
    worst = np.array(figures.worst, np.int64)
    for what, indices in (
        ("contact sheet", sheet_indices(film.data, None)),
        ("worst frames", worst),
    ):
        file = f"quality_{slug(found)}_{_file_word(name)}_{_file_word(what)}.jpg"
        _sheet(
            found,
            indices,
            measurer.pictures_of_model(model, film, BITS, indices),
            folder,
            file,
            note,
        )
        note = (
            "one of a shot, the worst first"
            if what == "worst frames"
            else "film above, memory below"
        )
        images.append((f"{name}, {what} ({note})", file))
    return images


def _sheet(
    found: Findings,
    indices: NDArray[np.int64],
    made: NDArray[np.uint8],
    folder: Path,
    file: str,
    note: str,
) -> None:
    comparison.sheet(found.film, indices, made, folder / file, note)


def _file_word(name: str) -> str:
    return name.lower().replace(" ", "_").replace(",", "").replace("-", "_")
