"""What becomes of a film's process, as callers are told of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from film.errors import FilmError, FilmLimitError, FilmProcessLostError
from film.process.answers import UnexpectedError
from service.errors import LimitError, ServerSideError, ServiceError, UnavailableError

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
"""After how long another process can be tried."""


def limit_fault(error: FilmLimitError) -> ServiceError:
    """Return the caller's error for a film beyond a limit; it names the limit's setting."""
    setting = f"REFILM_FILM_{error.limit.upper()}"
    return LimitError(
        f"{error}; {setting} is the limit", reason=error.reason, metadata={"setting": setting}
    )


@contextmanager
def told_of_process(fault: Callable[[FilmError], ServiceError | None]) -> Iterator[None]:
    """Raise what became of a film's process as callers are told; `fault` says it of the film's."""
    try:
        yield
    except FilmError as error:
        raise fault(error) or error from None
    except FilmProcessLostError as error:
        raise UnavailableError(
            f"{error}; try again", reason="FILM_PROCESS_LOST", retry_after=RETRY_SECONDS
        ) from None
    except UnexpectedError as error:
        log.error("unexpected error in a film's process", error=error.name, details=error.details)
        raise ServerSideError("the film's process failed; the log has the details") from None
