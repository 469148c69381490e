"""Limits on concurrent operations; any more are rejected."""

from dataclasses import dataclass
from types import TracebackType

from service import metrics
from service.errors import OverloadedError
from service.settings import Settings


class Limit:
    """Places for operations of one kind. With none free: rejected at once, with a retry delay.

    A place is held for a block (`with limit:`), or from `enter` to `leave` where the work ends
    elsewhere. For one event loop. Nothing waits here: requests that may wait are queued in front of
    Triton (`service.inference.admission`), where their frames are counted.
    """

    def __init__(
        self,
        places: int,
        what: str,
        *,
        setting: str,
        reason: str = "OVERLOADED",
        retry_after: float = 5.0,
        advice: str = "try again later",
    ) -> None:
        """Make `places` places, all of them free.

        Args:
            places: how many.
            what: describes several operations, for the error: "films are being reconstructed".
            setting: the setting that `places` comes from; errors name it.
            reason: the error's stable reason.
            retry_after: seconds after which a place is likely to be free.
            advice: what the caller can do.
        """
        self.places = places
        self.taken = 0
        """Places in use."""
        self._what = what
        self._reason = reason
        self._setting = setting
        self._retry_after = retry_after
        self._advice = advice

    @property
    def is_full(self) -> bool:
        """Whether `enter` would raise."""
        return self.taken >= self.places

    def enter(self) -> None:
        """Take a place; raises OverloadedError if there is none."""
        if self.is_full:
            raise OverloadedError(
                f"{self.taken} {self._what}, as many as this service takes at once; {self._advice}",
                reason=self._reason,
                retry_after=self._retry_after,
                metadata={"setting": f"REFILM_{self._setting.upper()}"},
            )
        self.taken += 1

    def leave(self) -> None:
        """Release a place."""
        if not self.taken:
            raise ValueError("no place is taken")
        self.taken -= 1

    def __enter__(self) -> None:
        self.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()


@dataclass(frozen=True, slots=True)
class Limits:
    """The service's concurrency limits, by kind of operation."""

    films: Limit
    uploads: Limit
    clips: Limit
    single_calls: Limit
    searches: Limit
    duplicate_searches: Limit
    interpolated_films: Limit

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits in the settings, with all places free."""
        limits = cls(
            films=Limit(
                settings.max_reconstructions,
                "films are being reconstructed",
                setting="max_reconstructions",
                reason="TOO_MANY_RECONSTRUCTIONS",
                retry_after=10.0,
            ),
            uploads=Limit(
                settings.max_uploads,
                "uploads are in progress",
                setting="max_uploads",
                reason="TOO_MANY_UPLOADS",
            ),
            clips=Limit(
                settings.max_clips,
                "clips are being matched",
                setting="max_clips",
                reason="TOO_MANY_CLIPS",
            ),
            single_calls=Limit(
                settings.max_calls_waiting,
                "single calls are in progress or wait",
                setting="max_calls_waiting",
                retry_after=1.0,
                advice="try again, or use one stream",
            ),
            searches=Limit(
                settings.max_searches,
                "searches are in progress",
                setting="max_searches",
                retry_after=1.0,
            ),
            duplicate_searches=Limit(
                settings.max_duplicate_searches,
                "searches for duplicates are in progress",
                setting="max_duplicate_searches",
                retry_after=10.0,
            ),
            interpolated_films=Limit(
                settings.max_interpolated_films,
                "films are being made of latents",
                setting="max_interpolated_films",
            ),
        )
        metrics.UPLOADS_RUNNING.set_function(lambda: limits.uploads.taken)
        return limits
