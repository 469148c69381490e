"""The command `refilm`: a client of the service like any other.

Exit codes: 0 done; 1 the request or a file is at fault, the same command will fail again; 2 the
command line is wrong; 3 the service cannot answer now, the same command may succeed later; 4 the
film is truncated, what could be made of it was kept; 130 interrupted.
"""

from __future__ import annotations

import os
import sys

from refilm import _errors as errors
from refilm.cli._arguments import parser
from refilm.cli._usage import UsageError, in_plain_words

EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_LATER = 3
EXIT_PARTIAL = 4
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code. Errors are one line on the standard error."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        # Flush here, so that a closed pipe is noticed now and not at the interpreter's exit.
        sys.stdout.flush()
    except UsageError as error:
        return _fail(EXIT_USAGE, str(error))
    except errors.DataLossError as error:
        return _fail(EXIT_PARTIAL, str(error))
    except errors.ServiceError as error:
        later = f" (try again in {error.retry_after:g} s)" if error.retry_after else ""
        return _fail(EXIT_LATER, f"{error}{later}")
    except BrokenPipeError:
        # The reader of our output has closed it, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAULT
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _fail(EXIT_FAULT, f"{name}{error.strerror or error}")
    except errors.RefilmError as error:
        return _fail(EXIT_FAULT, in_plain_words(error))
    except ValueError as error:
        return _fail(EXIT_FAULT, str(error))
    except KeyboardInterrupt as interrupt:
        return _fail(EXIT_INTERRUPTED, ": ".join(("interrupted", *map(str, interrupt.args))))
    return code


def _fail(code: int, message: str) -> int:
    print(f"refilm: {' '.join(message.split())}", file=sys.stderr)
    return code
