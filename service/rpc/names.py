"""Formats resource names, and parses those in requests.

Anything that is not exactly a valid name is rejected here, so that no other input from a request
becomes part of a key.
"""

import re
from typing import NamedTuple, NoReturn

from service.errors import InvalidFieldError
from service.library import layout

_HEX64 = "[0-9a-f]{64}"
_FILM = f"films/(?P<film>{layout.FILM_ID.pattern})"
_FILM_NAME = re.compile(_FILM)
_MODEL_NAME = re.compile(
    r"models/(?P<model>-|[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})(/versions/(?P<version>[1-9]\d{0,8}))?",
    re.ASCII,
)
_UPLOAD_NAME = re.compile(f"uploads/(?P<upload>{layout.UPLOAD_ID.pattern})")
_RENDITION_NAME = re.compile(f"{_FILM}/renditions/(?P<rendition>{_HEX64}-[0-9a-f]{{16}})")
_LATENTS_NAME = re.compile(f"{_FILM}/latents/(?P<digest>{_HEX64})")
_RECONSTRUCTION_NAME = re.compile(
    f"{_FILM}/reconstructions/(?P<reconstruction>[a-z0-9][a-z0-9-]{{0,127}})"
)

ALL_FILMS = "films/-"
"""The wildcard parent: all films."""


class ModelName(NamedTuple):
    """The parsed name of a model or of one of its versions."""

    model: str
    """Empty: the service's default."""
    version: int
    """0: the name is the model's own and refers to its latest version."""


class RenditionName(NamedTuple):
    """A parsed rendition name."""

    film: str
    rendition: str


class LatentsName(NamedTuple):
    """The parsed name of a film's latents."""

    film: str
    digest: str
    """The model's digest, "sha256:…"."""


class ReconstructionName(NamedTuple):
    """A parsed reconstruction name."""

    film: str
    reconstruction: str


def model_name(model: str) -> str:
    """Return a model's name."""
    return f"models/{model}"


def version_name(model: str, version: int) -> str:
    """Return the name of a model's version."""
    return f"models/{model}/versions/{version}"


def upload_name(upload: str) -> str:
    """Return an upload's name."""
    return f"uploads/{upload}"


def film_name(film: str) -> str:
    """Return a film's name."""
    return f"films/{film}"


def rendition_name(film: str, rendition: str) -> str:
    """Return a rendition's name."""
    return f"films/{film}/renditions/{rendition}"


def latents_name(film: str, digest: str) -> str:
    """Return the name of a film's latents; `digest` with or without "sha256:"."""
    return f"films/{film}/latents/{layout.hexadecimal(digest)}"


def reconstruction_name(film: str, reconstruction: str) -> str:
    """Return a reconstruction's name."""
    return f"films/{film}/reconstructions/{reconstruction}"


def parse_version_name(name: str, field: str) -> ModelName:
    """Parse the name of a model or of a version; an empty one means the default.

    `field` is the name's path in the request. Raises InvalidFieldError (INVALID_NAME).
    """
    if not name:
        return ModelName("", 0)
    match = _MODEL_NAME.fullmatch(name)
    if match is None:
        _refuse(name, field, "models/{model} or models/{model}/versions/{version}")
    model = match["model"]
    return ModelName("" if model == "-" else model, int(match["version"] or 0))


def parse_model_name(name: str, field: str) -> str:
    """Return the id in a model's name; raises InvalidFieldError (NAME_REQUIRED, INVALID_NAME)."""
    match = _MODEL_NAME.fullmatch(name)
    if match is None or match["version"] or match["model"] == "-":
        _refuse(name, field, "models/{model}")
    return match["model"]


def parse_upload_name(name: str, field: str) -> str:
    """Return the id in an upload's name; raises InvalidFieldError, as above."""
    match = _UPLOAD_NAME.fullmatch(name)
    if match is None:
        _refuse(name, field, "uploads/{upload}")
    return match["upload"]


def parse_film_name(name: str, field: str) -> str:
    """Return the id in a film's name; `field` is the name's path in the request.

    Raises InvalidFieldError (NAME_REQUIRED, INVALID_NAME).
    """
    match = _FILM_NAME.fullmatch(name)
    if match is None:
        _refuse(name, field, "films/{film}")
    return match["film"]


def parse_parent_name(name: str, field: str) -> str | None:
    """Return the id in a film's name, or None for "films/-", which means all films."""
    return None if name == ALL_FILMS else parse_film_name(name, field)


def parse_rendition_name(name: str, field: str) -> RenditionName:
    """Parse a rendition's name."""
    match = _RENDITION_NAME.fullmatch(name)
    if match is None:
        _refuse(name, field, "films/{film}/renditions/{rendition}")
    return RenditionName(match["film"], match["rendition"])


def parse_latents_name(name: str, field: str) -> LatentsName:
    """Parse the name of a film's latents."""
    match = _LATENTS_NAME.fullmatch(name)
    if match is None:
        _refuse(name, field, "films/{film}/latents/{64 hexadecimal digits}")
    return LatentsName(match["film"], f"sha256:{match['digest']}")


def parse_reconstruction_name(name: str, field: str) -> ReconstructionName:
    """Parse a reconstruction's name."""
    match = _RECONSTRUCTION_NAME.fullmatch(name)
    if match is None:
        _refuse(name, field, "films/{film}/reconstructions/{reconstruction}")
    return ReconstructionName(match["film"], match["reconstruction"])


def parse_download_name(name: str, field: str) -> str | RenditionName | LatentsName:
    """Parse the name of a downloadable resource: returns a film's id, a rendition, or latents."""
    if (film := _FILM_NAME.fullmatch(name)) is not None:
        return film["film"]
    if _RENDITION_NAME.fullmatch(name):
        return parse_rendition_name(name, field)
    if _LATENTS_NAME.fullmatch(name):
        return parse_latents_name(name, field)
    _refuse(
        name, field, "films/{film}, films/{film}/renditions/{rendition} or films/{film}/latents/…"
    )


def _refuse(name: str, field: str, form: str) -> NoReturn:
    if not name:
        raise InvalidFieldError(field, f"is empty; give {form}", reason="NAME_REQUIRED")
    raise InvalidFieldError(
        field, f"{name[:200]!r} is no such name; its form is {form}", reason="INVALID_NAME"
    )
