"""What a reconstruction shall look like, as requests say it."""

from collections.abc import Mapping
from typing import TypeVar

from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import library_pb2

from film.output import Layout, OutputSettings, Quality, Size
from service.errors import InvalidFieldError

_LAYOUTS = {
    pb.LAYOUT_UNSPECIFIED: Layout.RECONSTRUCTION,
    pb.LAYOUT_RECONSTRUCTION: Layout.RECONSTRUCTION,
    pb.LAYOUT_SIDE_BY_SIDE: Layout.SIDE_BY_SIDE,
}
_SIZES = {
    pb.SIZE_UNSPECIFIED: Size.MODEL,
    pb.SIZE_MODEL: Size.MODEL,
    pb.SIZE_SOURCE: Size.SOURCE,
}
_SOUNDS = {pb.SOUND_UNSPECIFIED: True, pb.SOUND_KEEP: True, pb.SOUND_NONE: False}
_QUALITIES = {
    pb.QUALITY_UNSPECIFIED: Quality.STANDARD,
    pb.QUALITY_DRAFT: Quality.DRAFT,
    pb.QUALITY_STANDARD: Quality.STANDARD,
    pb.QUALITY_HIGH: Quality.HIGH,
}

Number = TypeVar("Number", bound=int)
Chosen = TypeVar("Chosen", bool, Layout, Size, Quality)


def output_settings(
    settings: pb.ReconstructVideoSettings | library_pb2.RenditionSettings, field: str = "settings"
) -> OutputSettings:
    """Return what a request asks for; `field` is its path in it. Raises InvalidFieldError."""
    return OutputSettings(
        layout=_choice(_LAYOUTS, settings.layout, f"{field}.layout", "Layout"),
        size=_choice(_SIZES, settings.size, f"{field}.size", "Size"),
        sound=_choice(_SOUNDS, settings.sound, f"{field}.sound", "Sound"),
        quality=_choice(_QUALITIES, settings.quality, f"{field}.quality", "Quality"),
    )


def _choice(choices: Mapping[Number, Chosen], value: Number, field: str, enum: str) -> Chosen:
    if value not in choices:
        raise InvalidFieldError(field, f"{value} is no {enum}", reason="INVALID_SETTING")
    return choices[value]
