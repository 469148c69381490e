"""Translates a film's errors into errors for the caller."""

from film.errors import (
    DamagedFilmError,
    FilmCrashedError,
    FilmError,
    FilmLimitError,
    SpoolFullError,
    TruncatedFilmError,
)
from service.errors import (
    DataLossError,
    InvalidFieldError,
    OverloadedError,
    ServiceError,
)
from service.film_errors import limit_error
from service.pipeline.stats import Stats

SPOOL_RETRY_SECONDS = 30.0
"""Retry delay for a full spool: about as long as a short film takes."""


def spool_error(error: FilmError) -> ServiceError:
    """Return the caller's error for a film that the spool refused."""
    if isinstance(error, SpoolFullError):
        return OverloadedError(str(error), reason=error.reason, retry_after=SPOOL_RETRY_SECONDS)
    # Too many bytes for one film: without a retry delay, since retrying is useless.
    return OverloadedError(str(error), reason=error.reason)


def film_error(error: FilmError, stats: Stats) -> ServiceError:
    """Return the caller's error for a film that could not be read (further)."""
    if isinstance(error, FilmLimitError) and error.limit:
        return limit_error(error)
    delivered_in_part = isinstance(error, TruncatedFilmError | FilmCrashedError) or (
        isinstance(error, DamagedFilmError) and stats.frames_written > 0
    )
    if not delivered_in_part:
        return InvalidFieldError("chunk", str(error), reason=error.reason)
    return _data_loss(str(error), error.reason, stats)


def short_film_error(announced: int, stats: Stats) -> ServiceError:
    """Return the caller's error for a stream that ended before the announced size."""
    return _data_loss(
        f"the stream ended after {stats.bytes_received} of the {announced} bytes that "
        "film_size_bytes announced",
        TruncatedFilmError.reason,
        stats,
    )


def _data_loss(what: str, reason: str, stats: Stats) -> ServiceError:
    position = f"{float(stats.position):.3f}"
    delivered = f"{stats.frames_written} frames, {position} s of the film"
    return DataLossError(
        f"{what.rstrip('.')}; delivered: {delivered if stats.frames_written else 'nothing'}",
        reason=reason,
        metadata={"frames": str(stats.frames_written), "position_seconds": position},
    )
