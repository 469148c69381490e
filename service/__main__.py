"""The server: `python -m service`. Settings are environment variables, see docs/operations.md.

`python -m service sweep` removes leftovers of interrupted operations in the library.
"""

import asyncio
import sys

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from film.process.sandbox import hide_from_peers
from service import logs
from service.app import serve
from service.parts import StartError
from service.settings import Settings
from service.sweep_command import sweep


def main() -> int:
    """Serve until a signal, or sweep; returns the exit code."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] != "sweep":
        print("usage: python -m service [sweep [--help]]", file=sys.stderr)
        return 2
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            print(_fault_line(fault), file=sys.stderr)
        return 2
    logs.configure(settings.log_format, settings.log_level)
    # Film processes run as this user, and must not read the keys in this process's memory.
    hide_from_peers()
    if arguments:
        return sweep(settings, arguments[1:])
    try:
        return asyncio.run(serve(settings))
    except StartError as error:
        print(f"The service cannot start: {error}", file=sys.stderr)
        return 1


def _fault_line(fault: ErrorDetails) -> str:
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        # Contradictory settings. The input would be all settings, secrets included.
        return message
    name = "REFILM_" + "_".join(str(part) for part in fault["loc"]).upper()
    return f"{name}: {message} (it is {fault['input']!r})"


if __name__ == "__main__":
    sys.exit(main())
