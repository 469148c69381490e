"""What a store that fails means to the caller. Neither paths, addresses nor keys are in it."""

from service.errors import OverloadedError, UnavailableError

RETRY_AFTER_SECONDS = 5.0
"""After how long a store that is down may be back."""

FULL_RETRY_AFTER_SECONDS = 60.0
"""After how long somebody may have made room."""


def unavailable() -> UnavailableError:
    """Return the error of a store that does not answer."""
    return UnavailableError(
        "the library's store does not answer; try again later",
        reason="STORE_UNAVAILABLE",
        retry_after=RETRY_AFTER_SECONDS,
    )


def refused() -> UnavailableError:
    """Return the error of a store that turns the service away: its operator has to act."""
    return UnavailableError(
        "the library's store refuses the service, whose operator has to set it right",
        reason="STORE_REFUSED",
        retry_after=FULL_RETRY_AFTER_SECONDS,
    )


def full() -> OverloadedError:
    """Return the error of a store without room."""
    return OverloadedError(
        "the library's store is full; try again later",
        reason="STORE_FULL",
        retry_after=FULL_RETRY_AFTER_SECONDS,
    )
