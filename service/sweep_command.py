"""The sweep as a command: `python -m service sweep [--dry-run] [--older-than HOURS]`.

The running service sweeps every hour by itself; this shows an operator what it would find. Exit
codes: 0 swept, 1 the store does not answer, 2 a setting or argument is wrong.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from service.errors import ServiceError
from service.library.sweep import Leftover, Sweep
from service.settings import Settings
from service.storage.factory import StoreSettingsError, open_store


def sweep(settings: Settings, arguments: Sequence[str]) -> int:
    """Sweep the library once and print what was found; return the exit code."""
    options = _parser(settings).parse_args(arguments)
    try:
        store = open_store(settings)
    except StoreSettingsError as error:
        print(error, file=sys.stderr)
        return 2
    totals: dict[str, list[Leftover]] = defaultdict(list)
    try:
        store.check()
        found = Sweep(
            store, older_than=timedelta(hours=options.older_than), dry_run=options.dry_run
        ).run()
        for leftover in found:
            print(_row(leftover.kind, leftover.objects, leftover.size, leftover.name), flush=True)
            totals[leftover.kind].append(leftover)
    except ServiceError as error:
        print(error.message, file=sys.stderr)
        return 1
    for kind, leftovers in sorted(totals.items()):
        print(
            _row(
                "total",
                sum(leftover.objects for leftover in leftovers),
                sum(leftover.size for leftover in leftovers),
                f"{len(leftovers)} x {kind}",
            )
        )
    if not totals:
        print("nothing is left over")
    elif options.dry_run:
        print("nothing was removed: this was a dry run")
    return 0


def _row(kind: str, objects: int, size: int, name: str) -> str:
    return f"{kind:<10}{objects:>8} objects {size:>16,} bytes  {name}"


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service sweep",
        description="Remove what interrupted work left in the library: rests of deleted films, "
        "uploads and reconstructions that nobody went on with.",
    )
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, only say what")
    parser.add_argument(
        "--older-than",
        type=_hours,
        default=settings.upload_hours,
        metavar="HOURS",
        help="what nothing was written to for so long (default: REFILM_UPLOAD_HOURS, %(default)s)",
    )
    return parser


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 <= hours < float("inf"):
        raise ValueError
    return hours


_hours.__name__ = "number of hours"
