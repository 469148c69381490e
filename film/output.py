"""Output settings of a reconstruction, and the resulting sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

from film.facts import FilmFacts
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH

_MAX_PICTURE_WIDTH = 1920
_MAX_PICTURE_HEIGHT = 1080


class Layout(Enum):
    """The layout of the picture."""

    RECONSTRUCTION = "reconstruction"
    SIDE_BY_SIDE = "side_by_side"
    """The source on the left, the reconstruction on the right."""


class Size(Enum):
    """How large each picture is."""

    MODEL = "model"
    """256 x 144; the sample aspect ratio restores the film's shape."""
    SOURCE = "source"
    """The source's displayed size, at most 1920 x 1080."""


class Quality(Enum):
    """Quality of the video encoding."""

    DRAFT = "draft"
    STANDARD = "standard"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """Settings with which a reconstruction is written."""

    layout: Layout = Layout.RECONSTRUCTION
    size: Size = Size.MODEL
    sound: bool = True
    quality: Quality = Quality.STANDARD


def settings_to_json(settings: OutputSettings) -> dict[str, object]:
    """Return settings as plain JSON."""
    return {
        "layout": settings.layout.value,
        "size": settings.size.value,
        "sound": settings.sound,
        "quality": settings.quality.value,
    }


def settings_from_json(data: Mapping[str, Any]) -> OutputSettings:
    """Read what `settings_to_json` returned; raises KeyError or ValueError."""
    return OutputSettings(
        Layout(data["layout"]),
        Size(data["size"]),
        bool(data["sound"]),
        Quality(data["quality"]),
    )


def output_size(facts: FilmFacts, settings: OutputSettings) -> tuple[int, int]:
    """Return the output's stored width and height in pixels, both even."""
    width, height = _single_size(facts, settings.size)
    return (2 * width if settings.layout is Layout.SIDE_BY_SIDE else width), height


def picture_size(facts: FilmFacts, settings: OutputSettings) -> tuple[int, int] | None:
    """Return the size of the source pictures that the reader must supply beside the model frames.

    None if none are needed: side by side at the model's size shows the model frames themselves.
    """
    if settings.layout is Layout.RECONSTRUCTION or settings.size is Size.MODEL:
        return None
    return _single_size(facts, settings.size)


def output_sample_aspect_ratio(facts: FilmFacts, settings: OutputSettings) -> Fraction:
    """Return the shape of an output pixel, width to height, that restores the film's shape."""
    if settings.size is Size.SOURCE:
        return Fraction(1)
    shape = Fraction(facts.width, facts.height) * facts.sample_aspect_ratio
    if facts.rotation in (90, 270):
        shape = 1 / shape
    exact = shape * Fraction(MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH)
    return _storable(exact)


def _single_size(facts: FilmFacts, size: Size) -> tuple[int, int]:
    if size is Size.MODEL:
        return MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT
    width, height = facts.display_size
    scale = min(
        Fraction(1), Fraction(_MAX_PICTURE_WIDTH, width), Fraction(_MAX_PICTURE_HEIGHT, height)
    )
    return _even(width * scale), _even(height * scale)


def _even(length: Fraction) -> int:
    return max(2, 2 * round(length / 2))


def _storable(ratio: Fraction) -> Fraction:
    """Return the ratio, or the nearest one whose two numbers fit into H.264 (16 bits each)."""
    limit = 0xFFFF
    if ratio > 1:
        return 1 / _storable(1 / ratio)
    return ratio.limit_denominator(limit) or Fraction(1, limit)
