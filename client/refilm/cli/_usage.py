"""What is wrong with a command line beyond what argparse sees."""

from __future__ import annotations

import sys
from typing import IO


class UsageError(Exception):
    """Two options contradict each other, or one does not fit the data."""


def binary_stdout() -> IO[bytes]:
    """Returns the standard output for bytes; raises UsageError where that is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("the standard output is a terminal: name a file with -o, or use a pipe")
    return sys.stdout.buffer
