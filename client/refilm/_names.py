"""Names of what the library keeps."""

from __future__ import annotations

import re

from refilm._film_values import Film

_FILM = re.compile(r"films/[a-z0-9][a-z0-9-]{0,62}")


def film_name(film: str | Film) -> str:
    """Returns a film's name."""
    return film.name if isinstance(film, Film) else film


def library_film(source: object) -> str | None:
    """Returns the name of a film of the library; None for anything else, paths above all."""
    if isinstance(source, Film):
        return source.name
    return source if isinstance(source, str) and _FILM.fullmatch(source) else None
