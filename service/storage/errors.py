"""Errors of the object store, as callers see them: without paths, addresses or keys."""

from service.errors import OverloadedError, UnavailableError

RETRY_AFTER_SECONDS = 5.0
"""Retry delay for a store that is down."""

FULL_RETRY_AFTER_SECONDS = 60.0
"""Retry delay for a store that is full."""


def unavailable() -> UnavailableError:
    """Return the error for a store that does not answer."""
    return UnavailableError(
        "the library's store does not answer; try again later",
        reason="STORE_UNAVAILABLE",
        retry_after=RETRY_AFTER_SECONDS,
    )


def refused() -> UnavailableError:
    """Return the error for a store that refuses the service's access."""
    return UnavailableError(
        "the library's store refuses the service's access; its operator must fix the settings",
        reason="STORE_REFUSED",
        retry_after=FULL_RETRY_AFTER_SECONDS,
    )


def full() -> OverloadedError:
    """Return the error for a full store."""
    return OverloadedError(
        "the library's store is full; try again later",
        reason="STORE_FULL",
        retry_after=FULL_RETRY_AFTER_SECONDS,
    )
