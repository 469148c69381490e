"""What is wrong with a command line beyond what argparse sees."""

from __future__ import annotations

import sys
from typing import IO

from refilm._errors import RefilmError


class UsageError(Exception):
    """Two options contradict each other, or one does not fit the data."""


def in_plain_words(error: RefilmError) -> str:
    """Returns what was wrong without the paths of the request's fields, which mean no option."""
    return "; ".join(violation.description for violation in error.violations) or str(error)


def binary_stdout() -> IO[bytes]:
    """Returns the standard output for bytes; raises UsageError where that is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("the standard output is a terminal: name a file with -o, or use a pipe")
    return sys.stdout.buffer
