"""Leases on renditions: which replica runs a job.

Leases are numbered; the newest counts. Its holder writes a heartbeat counter into it; a replica
that sees the counter unchanged for long enough, by its own clock, takes the next number. Clocks of
different machines are never compared. The holder of an older lease finds out at its next heartbeat
and stops; until then both may run, each in its own folder.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from service.library import layout
from service.library.records import RecordFormat, UnreadableRecordError
from service.library.verified_reads import DamagedError
from service.storage.objects import ObjectNotFoundError, ObjectStore

BEATS = 4
"""Heartbeats per lease duration."""


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease as stored."""

    number: int
    owner: str
    beats: int
    """Heartbeats so far."""
    expires: str
    """Expiry by its holder's clock, for display only."""
    released: bool
    """Whether its holder has released it."""

    @property
    def seems_held(self) -> bool:
        """Whether it looks held, judging by this read alone."""
        return not self.released and datetime.fromisoformat(self.expires) > datetime.now(UTC)


_FORMAT = RecordFormat(LeaseState, versioned=False)


class Lease:
    """A lease held by this process. Blocks; not thread-safe."""

    def __init__(self, store: ObjectStore, folder: str, state: LeaseState, seconds: float) -> None:
        self._store = store
        self._folder = folder
        self._state = state
        self._seconds = seconds
        self.attempt = f"{state.number:06d}-{secrets.token_hex(4)}"
        """The name of the attempt under this lease."""

    def renew(self) -> bool:
        """Write a heartbeat; return False, from then on, if another replica has taken over."""
        newest = _newest(self._store, self._folder)
        if newest is not None and newest != _key(self._folder, self._state.number):
            return False
        self._write(released=False)
        return True

    def release(self) -> None:
        """Release the lease, so that no replica has to wait for its expiry."""
        self._write(released=True)

    def _write(self, *, released: bool) -> None:
        self._state = replace(
            self._state,
            beats=self._state.beats + 1,
            expires=_after(self._seconds),
            released=released,
        )
        self._store.put(_key(self._folder, self._state.number), _FORMAT.encode(self._state))


class Leases:
    """The leases of all renditions. Blocking and thread-safe."""

    def __init__(self, store: ObjectStore, *, owner: str, seconds: float) -> None:
        """`owner` names this process; a lease is free `seconds` after its last heartbeat."""
        self._store = store
        self._owner = owner
        self.seconds = seconds

    def newest(self, film: str, rendition: str) -> LeaseState | None:
        """Return the newest lease, held or not; None if there was none; raises DamagedError."""
        key = _newest(self._store, _folder(film, rendition))
        if key is None:
            return None
        try:
            return _FORMAT.decode(self._store.get(key))
        except ObjectNotFoundError:
            return None
        except UnreadableRecordError as error:
            raise DamagedError(film, f"the lease of a rendition {error}") from None

    def take(self, film: str, rendition: str, after: LeaseState | None) -> Lease | None:
        """Acquire the lease after `after`, which must be free; None: another was faster."""
        folder = _folder(film, rendition)
        number = after.number + 1 if after is not None else 1
        state = LeaseState(number, self._owner, 0, _after(self.seconds), released=False)
        if not self._store.create(_key(folder, number), _FORMAT.encode(state)):
            return None
        return Lease(self._store, folder, state, self.seconds)


class LeaseWatch:
    """Detects that another replica's lease has expired, by this process's own clock."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sign: tuple[int, int] | None = None
        self._since = 0.0

    def is_free(self, newest: LeaseState | None) -> bool:
        """Return whether a lease just read can be acquired."""
        if newest is None or newest.released:
            return True
        sign = (newest.number, newest.beats)
        if sign != self._sign:
            self._sign, self._since = sign, self._clock()
        return self._clock() - self._since >= self._seconds


def _folder(film: str, rendition: str) -> str:
    return f"{layout.rendition_folder(film, rendition)}lease/"


def _key(folder: str, number: int) -> str:
    return f"{folder}{number:06d}"


def _newest(store: ObjectStore, folder: str) -> str | None:
    key = None
    for info in store.list(folder):
        key = info.key
    return key


def _after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
