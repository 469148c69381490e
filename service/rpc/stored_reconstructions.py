"""Stored reconstructions, which outlive their calls: finds them, and converts them to messages."""

from typing import Final

from refilm.v1 import library_pb2 as pb

from service.errors import NotFoundError, Resource
from service.library.films import Film
from service.library.job_records import Job, JobName
from service.library.library import Library
from service.library.segment_records import newest_record
from service.rpc import messages, names
from service.rpc.durations import duration
from service.rpc.reconstruction_messages import settings_message

_STATES: Final = {
    "succeeded": pb.RECONSTRUCTION_STATE_SUCCEEDED,
    "failed": pb.RECONSTRUCTION_STATE_FAILED,
    "cancelled": pb.RECONSTRUCTION_STATE_CANCELLED,
}
ENDED_STATES: Final = frozenset(_STATES.values())


class StoredReconstructions:
    """Reads reconstructions. Blocks, so call it through the library's threads."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._jobs = library.jobs

    def current(self, name: str, field: str) -> pb.Reconstruction:
        """Return a reconstruction's current state; raises as `find`."""
        return self.message(*self.find(name, field))

    def find(self, name: str, field: str) -> tuple[Job, Film]:
        """Return the job and the film for a name; `field` is its path in the request.

        Raises InvalidFieldError or NotFoundError.
        """
        film_id, job_id = names.parse_reconstruction_name(name, field)
        film = self._library.films.get(film_id)
        job = self._jobs.find(JobName(film_id, job_id))
        if job is None or job.film_uid != film.uid:
            raise NotFoundError(
                f"there is no reconstruction {name}",
                reason="RECONSTRUCTION_NOT_FOUND",
                resource=Resource("reconstruction", name),
            )
        return job, film

    def message(self, job: Job, film: Film) -> pb.Reconstruction:
        """Return a job's current state as a message."""
        end = self._jobs.end_of(job.name)
        message = pb.Reconstruction(
            name=names.reconstruction_name(job.film, job.id),
            model=messages.model_identity(job.model),
            settings=settings_message(job.settings),
            estimated_frames=film.facts.estimated_frames or 0,
            rendition=names.rendition_name(job.film, job.rendition),
        )
        message.create_time.FromDatetime(job.created)
        manifest = self._library.renditions.find(film.id, job.rendition)
        if manifest is not None:
            message.frames = message.estimated_frames = manifest.frames
            message.position.CopyFrom(duration(manifest.duration))
        elif record := newest_record(self._library.store, film.id, job.rendition):
            message.frames = record.resume.frames
            message.position.CopyFrom(duration(record.resume.position))
        if end is not None:
            message.state = _STATES[end.state]
            message.end_time.FromDatetime(end.time)
            if end.state == "failed":
                message.fault.reason, message.fault.message = end.reason, end.message
        elif self._is_worked_on(job):
            message.state = pb.RECONSTRUCTION_STATE_RUNNING
        else:
            message.state = pb.RECONSTRUCTION_STATE_QUEUED
        return message

    def _is_worked_on(self, job: Job) -> bool:
        newest = self._library.leases.newest(job.film, job.rendition)
        return newest is not None and newest.seems_held
