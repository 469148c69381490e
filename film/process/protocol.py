"""The protocol between the service and a film process.

There are three sockets, so that a film is read and written at once: on the first two the service
asks and the child answers, one thing at a time; on the third the child asks for bytes.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import IntEnum
from fractions import Fraction

from film.facts import FilmFacts, SoundAction

BLOCK_BYTES = 2 * 2**20
"""Fetched at once: a film is read forwards, so what follows is wanted next."""
BATCH_PICTURE_BYTES = 32 * 2**20
"""Source pictures of one batch (side by side): large pictures make small batches."""
MAX_ERROR_CHARACTERS = 4000
CUBE_BYTES = 512 * 512 * 3 * 2
"""Of a table for tone mapping, a `film.read.colour_cube.Cube`."""

FILM_MAIN = "film.process.film_main"
CUBE_MAIN = "film.process.cube_main"


class Kind(IntEnum):
    """What a message is."""

    DONE = 1
    """The answer to any request that was executed."""
    FAILED = 2
    """The answer to one that could not be: `error`, `message`, and `limit` where one was met."""

    PROGRESS = 3
    """Before the answer, while that takes long: `film_seconds`, how far the film was read."""

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

    # Asked for by the child.
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
