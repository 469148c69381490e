"""The protocol between the service and a film process.

There are three sockets, so that a film is read and written at once: on the first two the service
sends requests, one at a time; on the third the child requests bytes.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import IntEnum
from fractions import Fraction

from film.facts import FilmFacts, SoundAction

BLOCK_BYTES = 2 * 2**20
"""Bytes fetched at a time: a film is read forwards, so what follows is needed next."""
BATCH_PICTURE_BYTES = 32 * 2**20
"""Source pictures of one batch (side by side): large pictures make small batches."""
MAX_ERROR_CHARACTERS = 4000
CUBE_BYTES = 512 * 512 * 3 * 2
"""Bytes of a tone mapping table, a `film.read.colour_cube.Cube`."""

FILM_MAIN = "film.process.film_main"
CUBE_MAIN = "film.process.cube_main"


class Kind(IntEnum):
    """The type of a message."""

    DONE = 1
    """The answer to any request that succeeded."""
    FAILED = 2
    """The answer to one that failed: `error`, `message`, and `limit` if one was exceeded."""

    PROGRESS = 3
    """Sent before an answer that takes long: `film_seconds`, how far the film was read."""

    # Reading.
    OPEN = 10
    NEXT = 11
    SURVEY = 12
    CLIP = 13
    NEXT_OF_CLIP = 14

    # Writing.
    BEGIN_STREAM = 20
    BEGIN_SEGMENTS = 21
    BEGIN_SEQUENCE = 22
    WRITE = 23
    CLOSE = 24

    # Requests of the child.
    WAIT_FOR_BYTES = 30
    READ_BLOCK = 31
    COLOUR_CUBE = 32


def facts_to_json(facts: FilmFacts) -> dict[str, object]:
    """Return a film's facts as JSON holds them; fractions as "numerator/denominator"."""
    return {
        name: _plain(value) if name != "sound_tracks" else _tracks(facts)
        for name, value in asdict(facts).items()
    }


def _tracks(facts: FilmFacts) -> list[dict[str, object]]:
    return [
        {name: _plain(value) for name, value in asdict(track).items()}
        for track in facts.sound_tracks
    ]


def _plain(value: object) -> object:
    if isinstance(value, SoundAction):
        return value.value
    return str(value) if isinstance(value, Fraction) else value
