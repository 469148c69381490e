"""Resource names: those of models, and of what the library stores."""

from __future__ import annotations

import re

from refilm._film_values import Film

_MODEL = re.compile(r"models/([^/]+)(?:/versions/([1-9][0-9]*))?")
_FILM = re.compile(r"films/[a-z0-9][a-z0-9-]{0,62}")


def model_name(model: str, version: int = 0) -> str:
    """Returns the name of a model, or of one version of it.

    Args:
        model: A name, "models/{model}" with or without "/versions/{version}", or just the {model};
            empty for the service's default.
        version: From 1; 0 for the latest.

    Raises:
        ValueError: The version is negative, or the name has another.
    """
    if version < 0:
        raise ValueError(f"versions count from 1 (0: the latest), not {version}")
    named = _MODEL.fullmatch(model)
    if named is not None:
        model = named[1]
        if named[2] is not None:
            if version not in (0, int(named[2])):
                raise ValueError(f"model says version {named[2]}, version says {version}")
            version = int(named[2])
    if not version:
        return f"models/{model}" if model else ""
    return f"models/{model or '-'}/versions/{version}"


def model_parts(name: str) -> tuple[str, int]:
    """Returns the model and the version in a name; 0 if it names no version."""
    named = _MODEL.fullmatch(name)
    if named is None:
        return name, 0
    return named[1], int(named[2] or 0)


def upload_name(upload_id: str) -> str:
    """Returns an upload's name."""
    return f"uploads/{upload_id}"


def film_name(film: str | Film) -> str:
    """Returns a film's name."""
    return film.name if isinstance(film, Film) else film


def library_film(source: object) -> str | None:
    """Returns the name of a film of the library; None for anything else, such as a path."""
    if isinstance(source, Film):
        return source.name
    return source if isinstance(source, str) and _FILM.fullmatch(source) else None
