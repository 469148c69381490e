"""How many films may be in work at once: those that callers send and those of the library."""

from service.errors import OverloadedError

RETRY_AFTER_SECONDS = 10.0


class Limit:
    """Places for films in work; used on one event loop."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0

    @property
    def free_for_jobs(self) -> bool:
        """Whether work may begin that nobody waits for: it leaves a place to those who wait."""
        return self._taken < max(1, self._places - 1)

    def enter(self) -> None:
        """Take a place; raises OverloadedError where there is none."""
        if self._taken >= self._places:
            raise OverloadedError(
                f"{self._taken} films are being reconstructed, as many as this service takes "
                "at once; try again",
                reason="TOO_MANY_RECONSTRUCTIONS",
                retry_after=RETRY_AFTER_SECONDS,
            )
        self._taken += 1

    def leave(self) -> None:
        """Give a place back."""
        self._taken -= 1
