"""The server: `python -m service`. Settings are environment variables, see docs/operations.md."""

import asyncio
import sys

from pydantic import ValidationError

from service import logs
from service.server import StartError, serve
from service.settings import Settings


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "REFILM_" + "_".join(str(part) for part in fault["loc"]).upper()
            print(f"{name}: {fault['msg']} (it is {fault['input']!r})", file=sys.stderr)
        return 2
    logs.configure(settings.log_format, settings.log_level)
    try:
        return asyncio.run(serve(settings))
    except StartError as error:
        print(f"The service cannot start: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
