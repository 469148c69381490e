"""Translates errors of film processes into errors for callers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from film.errors import FilmError, FilmLimitError, FilmProcessLostError
from film.process.answers import UnexpectedError
from service.errors import LimitError, ServerSideError, ServiceError, UnavailableError

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
"""Retry delay after a film process was lost."""


def limit_error(error: FilmLimitError) -> ServiceError:
    """Return the caller's error for a film over a limit, with the limit's setting."""
    setting = f"REFILM_FILM_{error.limit.upper()}"
    return LimitError(
        f"{error}; {setting} is the limit", reason=error.reason, metadata={"setting": setting}
    )


@contextmanager
def translated_process_errors(fault: Callable[[FilmError], ServiceError | None]) -> Iterator[None]:
    """Translate errors of a film process for callers; `fault` translates those of the film."""
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
