"""Records of started reconstructions, which outlive their calls."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias

from service.library import layout
from service.library.records import (
    Moment,
    RecordFormat,
    StoredModel,
    StoredSettings,
    UnreadableRecordError,
)
from service.library.renditions import rendition_id
from service.library.verified_reads import DamagedError
from service.storage.objects import ObjectNotFoundError, ObjectStore

_UNBORN = timedelta(minutes=10)
"""Age after which a pending note without its job is a leftover."""

Ending: TypeAlias = Literal["succeeded", "failed", "cancelled"]


class JobName(NamedTuple):
    """A job of a film."""

    film: str
    job: str


@dataclass(frozen=True, slots=True)
class Job:
    """A started reconstruction; immutable."""

    film: str
    """The film's id."""
    film_uid: str
    id: str
    model: StoredModel
    settings: StoredSettings
    request: str
    """A digest of the request, to detect a reused request id."""
    created: Moment

    @property
    def name(self) -> JobName:
        """The job's name."""
        return JobName(self.film, self.id)

    @property
    def rendition(self) -> str:
        """The rendition's id."""
        return rendition_id(self.model.digest, self.settings)


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a reconstruction ended."""

    state: Ending
    time: Moment
    reason: str = ""
    """For a failed one: stable, UPPER_SNAKE_CASE."""
    message: str = ""
    """For a failed one: human-readable."""

    @classmethod
    def now(cls, state: Ending, reason: str = "", message: str = "") -> "JobEnd":
        """Return an end with the current time."""
        return cls(state, datetime.now(UTC), reason, message)


_JOB = RecordFormat(Job, in_key=("film", "id"))
_END = RecordFormat(JobEnd)


class Jobs:
    """The reconstructions of all films. Blocking and thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def create(self, job: Job) -> Job:
        """Store a job for the replicas to run; return the job stored under its name."""
        note = layout.pending(job.film, job.id)
        self._store.put(note, b"")
        if self._store.create(_key(job.name), _JOB.encode(job)):
            return job
        found = self.find(job.name) or job
        if self.end_of(job.name) is not None:
            self._store.delete([note])
        return found

    def find(self, name: JobName) -> Job | None:
        """Return a job, or None if there is no readable one."""
        try:
            return _JOB.decode(self._store.get(_key(name)), film=name.film, id=name.job)
        except (ObjectNotFoundError, UnreadableRecordError):
            return None

    def end(self, name: JobName, end: JobEnd) -> JobEnd:
        """End a job unless it has already ended; return its end."""
        self._store.create(_end_key(name), _END.encode(end))
        self._store.delete([layout.pending(*name)])
        return self.end_of(name) or end

    def end_of(self, name: JobName) -> JobEnd | None:
        """Return how a job ended; None while it has not. Raises DamagedError."""
        try:
            return _END.decode(self._store.get(_end_key(name)))
        except ObjectNotFoundError:
            return None
        except UnreadableRecordError as error:
            raise DamagedError(name.film, f"the end of a reconstruction {error}") from None

    def forget(self, name: JobName) -> None:
        """Remove a job of a deleted film."""
        self._store.delete([layout.pending(*name), _end_key(name), _key(name)])

    def list(self, film: str, *, after: str = "") -> Iterator[Job]:
        """Yield a film's jobs after the id `after`, by id."""
        folder = f"{layout.film_folder(film)}reconstructions/"
        for job_id in self._store.folders(folder, after=after):
            job = self.find(JobName(film, job_id))
            if job is not None:
                yield job

    def pending(self) -> Iterator[JobName]:
        """Yield the jobs that have not ended, by name."""
        for info in self._store.list(layout.PENDING):
            film, _, job_id = info.key.removeprefix(layout.PENDING).partition("~")
            yield JobName(film, job_id)

    def settle(self, name: JobName) -> None:
        """Remove the pending note of a job that has ended, or was never stored."""
        note = layout.pending(*name)
        if self.end_of(name) is None:
            try:
                written = self._store.info(note).modified
            except ObjectNotFoundError:
                return
            if datetime.now(UTC) - written < _UNBORN:
                return
        self._store.delete([note])


def _key(name: JobName) -> str:
    return f"{layout.reconstruction_folder(*name)}job.json"


def _end_key(name: JobName) -> str:
    return f"{layout.reconstruction_folder(*name)}ended.json"
