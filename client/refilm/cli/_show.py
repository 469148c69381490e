"""Tables and JSON on the standard output."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Prints a table: drawn on a terminal, plain aligned lines elsewhere.

    Args:
        head: The columns' names.
        rows: One cell a column.
        right: The indices of columns that hold numbers.
    """
    numbers = set(right)
    if sys.stdout.isatty():
        try:
            return _drawn(head, rows, numbers)
        except ImportError:
            pass
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    return None


def _drawn(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: set[int]) -> None:
    # rich belongs to the extra [cli].
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(head):
        drawn.add_column(name, justify="right" if place in numbers else "left", overflow="fold")
    for row in rows:
        # Titles are untrusted text: no markup is interpreted in them.
        drawn.add_row(*map(Text, row))
    Console().print(drawn)


def json_line(facts: dict[str, Any]) -> None:
    """Prints one JSON object on a line, at once."""
    print(json.dumps(facts, default=_plain), flush=True)


def as_json(value: Any) -> dict[str, Any]:
    """Returns a value's fields for JSON, without pictures."""
    facts = dataclasses.asdict(value)
    return {name: field for name, field in facts.items() if name != "preview"}


def _plain(value: object) -> object:
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")


def moment(when: datetime) -> str:
    """Returns a point in time in readable form, in the local time zone."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M")
