"""What is wrong with a command line beyond what argparse sees."""

from __future__ import annotations

import sys
from typing import IO

from refilm._errors import RefilmError


class UsageError(Exception):
    """Two options contradict each other, or one does not fit the data."""


_HINTS = {
    "FILM_NOT_FOUND": "`refilm films` lists those that there are",
    "LATENTS_MISSING": "`refilm reconstruct` with its name makes them",
    "LATENTS_NOT_FOUND": "`refilm film` with the film's name shows what there is",
    "MODEL_NOT_FOUND": "`refilm models` lists those that there are",
    "MODEL_REQUIRED": "choose one with --model",
    "RECONSTRUCTION_NOT_FOUND": "`refilm reconstructions list` lists those that there are",
    "RENDITION_NOT_FOUND": "`refilm film` with the film's name shows what there is",
    "SOURCE_FRAMES_UNSUPPORTED": "`refilm film` with its name shows its renditions and latents",
}
"""The command that helps, by the error's reason: the service does not know commands."""


def in_plain_words(error: RefilmError) -> str:
    """Returns what was wrong, and the command that helps.

    Omits the paths of the request's fields, which are not options.
    """
    problem = "; ".join(violation.description for violation in error.violations) or str(error)
    hint = _HINTS.get(error.reason)
    return f"{problem}; {hint}" if hint else problem


def binary_stdout() -> IO[bytes]:
    """Returns the standard output for bytes; raises UsageError if it is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("the standard output is a terminal: name a file with -o, or use a pipe")
    return sys.stdout.buffer
