"""Times variants in turn, so that the machine's other load cancels out."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Times = dict[str, list[float]]
"""Seconds by variant, one a round."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A variant's time relative to the baseline of the same round, over all rounds."""

    median: float
    lowest: float
    highest: float


def interleave(variants: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Time every variant once a round, in alternating order, after a warm-up round."""
    times: Times = {name: [] for name in variants}
    for number in range(rounds + 1):
        names = list(variants) if number % 2 else list(variants)[::-1]
        for name in names:
            began = time.perf_counter()
            variants[name]()
            if number:
                times[name].append(time.perf_counter() - began)
    return times


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Compare round by round: a slow machine is slow for both."""
    ratios = [value / base for value, base in zip(values, baseline, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))
