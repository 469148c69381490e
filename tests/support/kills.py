"""Repeated kills: 5 in `make test`, 100 in `make soak`, counted.

A test that takes its rounds from `kills` is marked with `killing`.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

KILLS = int(os.environ.get("REFILM_KILLS", "5"))

_marks = (pytest.mark.kills, pytest.mark.timeout(300 + 60 * KILLS))


def killing(test: object) -> object:
    """Mark a test as one that kills."""
    for mark in _marks:
        test = mark(test)
    return test


class Kills:
    """The rounds of one test, and what happened in them."""

    def __init__(self, what: str, seed: int = 0) -> None:
        """`what` says what is killed and when, for the count at the end."""
        self._what = what
        self._seed = seed
        self._seen: Counter[str] = Counter()

    def __iter__(self) -> Iterator[random.Random]:
        """Yield a random generator for each round; print the counts after the last."""
        for number in range(KILLS):
            yield random.Random(1000 * self._seed + number)
        seen = ", ".join(f"{count} {what}" for what, count in sorted(self._seen.items()))
        print(f"\n{self._what}: {KILLS} kills; {seen}")

    def saw(self, what: str) -> None:
        """Count what a kill interrupted."""
        self._seen[what] += 1

    def count(self, what: str) -> int:
        """Return how often that was seen."""
        return self._seen[what]
