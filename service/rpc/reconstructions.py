"""Reconstructions that outlive calls: their messages, and what they mean to the jobs."""

import hashlib
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from refilm.v1 import library_pb2 as pb

from film.output import OutputSettings
from service.errors import InvalidFieldError, NotFoundError, Resource
from service.inference import Models, ModelVersion
from service.library.films import Film
from service.library.job_records import Job, JobEnd, JobName
from service.library.segment_records import newest_record
from service.renditions import JobRunner, Registry, Target
from service.rpc import messages, names
from service.rpc.call import Context, current_call
from service.rpc.list_films import settings_message, stored_model_message
from service.rpc.messages import exact_duration, output_settings
from service.rpc.pages import page_begins_after, page_size, page_token
from service.rpc.requests import check_request_id

_FILMS_LOOKED_AT: Final = 500
"""Films whose reconstructions are looked for at most, for one page of those of all films."""

_STATES = {
    "succeeded": pb.RECONSTRUCTION_STATE_SUCCEEDED,
    "failed": pb.RECONSTRUCTION_STATE_FAILED,
    "cancelled": pb.RECONSTRUCTION_STATE_CANCELLED,
}


class ReconstructionCalls:
    """The calls about work that outlives calls."""

    def __init__(self, models: Models, registry: Registry, runner: JobRunner) -> None:
        self._models = models
        self._registry = registry
        self._jobs = registry.library.jobs
        self._runner = runner
        self._library = registry.library
        self._run = self._library.threads.run

    async def StartReconstruction(
        self,
        request: pb.StartReconstructionRequest,
        context: "Context[pb.StartReconstructionRequest, pb.StartReconstructionResponse]",
    ) -> pb.StartReconstructionResponse:
        """Start one; the same request id again is the same reconstruction."""
        film_id = names.parse_film_name(request.film, "film")
        check_request_id(request.request_id)
        settings = output_settings(request.settings)
        film = await self._run(self._library.films.get, film_id)
        asked = hashlib.sha256(
            request.model.SerializeToString(deterministic=True)
            + b"/"
            + request.settings.SerializeToString(deterministic=True)
        ).hexdigest()
        job_id = _job_id(request.request_id)
        job = await self._run(self._jobs.find, JobName(film_id, job_id))
        if job is None:
            model = messages.resolve(self._models, request.model)
            current_call().model = model
            job = await self._run(self._keep, _job(film, job_id, model, settings, asked), film)
        if job.request != asked:
            raise InvalidFieldError(
                "request_id",
                "was used for another reconstruction of this film; choose another",
                reason="REQUEST_ID_REUSED",
            )
        self._runner.look_soon()
        return pb.StartReconstructionResponse(
            reconstruction=await self._run(self._message, job, film)
        )

    async def GetReconstruction(
        self,
        request: pb.GetReconstructionRequest,
        context: "Context[pb.GetReconstructionRequest, pb.GetReconstructionResponse]",
    ) -> pb.GetReconstructionResponse:
        """Say how far one is."""
        job, film = await self._run(self._find, request.name)
        return pb.GetReconstructionResponse(
            reconstruction=await self._run(self._message, job, film)
        )

    async def CancelReconstruction(
        self,
        request: pb.CancelReconstructionRequest,
        context: "Context[pb.CancelReconstructionRequest, pb.CancelReconstructionResponse]",
    ) -> pb.CancelReconstructionResponse:
        """Stop one; whoever works on it notices within a second or two."""
        job, film = await self._run(self._find, request.name)
        await self._run(self._jobs.end, job.name, JobEnd.now("cancelled"))
        self._runner.look_soon()
        return pb.CancelReconstructionResponse(
            reconstruction=await self._run(self._message, job, film)
        )

    async def ListReconstructions(
        self,
        request: pb.ListReconstructionsRequest,
        context: "Context[pb.ListReconstructionsRequest, pb.ListReconstructionsResponse]",
    ) -> pb.ListReconstructionsResponse:
        """List them, of a film or of all films."""
        film_id = names.parse_parent_name(request.parent, "parent")
        size = page_size(request.page_size)
        after = page_begins_after(request.page_token, request.parent)
        return await self._run(self._page, film_id, size, after, request.parent)

    # On storage's threads.

    def _keep(self, job: Job, film: Film) -> Job:
        kept = self._jobs.create(job)
        if not self._library.films.exists(film.id, film.uid):
            self._jobs.forget(job.name)
            self._library.films.get(film.id)
        if self._library.renditions.find(film.id, kept.rendition) is not None:
            self._jobs.end(kept.name, JobEnd.now("succeeded"))
        return kept

    def _find(self, name: str) -> tuple[Job, Film]:
        film_id, job_id = names.parse_reconstruction_name(name, "name")
        film = self._library.films.get(film_id)
        job = self._jobs.find(JobName(film_id, job_id))
        if job is None or job.film_uid != film.uid:
            raise NotFoundError(
                f"there is no reconstruction {name}; ListReconstructions lists those that there "
                "are",
                reason="RECONSTRUCTION_NOT_FOUND",
                resource=Resource("reconstruction", name),
            )
        return job, film

    def _page(
        self, film_id: str | None, size: int, after: str, parent: str
    ) -> pb.ListReconstructionsResponse:
        response = pb.ListReconstructionsResponse()
        film_after, _, job_after = after.partition("/")
        if film_id is not None:
            films: Iterator[Film] = iter([self._library.films.get(film_id)])
        else:
            films = self._films(film_after, job_after)
        for looked_at, film in enumerate(films, start=1):
            left = size - len(response.reconstructions)
            resumed = job_after if film.id == film_after else ""
            found = list(islice(self._jobs.list(film.id, after=resumed), left + 1))
            response.reconstructions.extend(self._message(job, film) for job in found[:left])
            if len(found) > left:
                last = response.reconstructions[-1].name if left else ""
                after = "/".join(names.parse_reconstruction_name(last, "")) if left else after
                response.next_page_token = page_token(after, parent)
                break
            after = f"{film.id}/~"  # Behind all of this film's.
            if looked_at == _FILMS_LOOKED_AT:
                response.next_page_token = page_token(after, parent)
                break
        return response

    def _films(self, after: str, job_after: str) -> Iterator[Film]:
        """Yield films, beginning with the one whose reconstructions are listed in part."""
        if job_after and job_after != "~" and (film := self._library.films.find(after)):
            yield film
        yield from self._library.films.list(after=after)

    def _message(self, job: Job, film: Film) -> pb.Reconstruction:
        end = self._jobs.end_of(job.name)
        message = pb.Reconstruction(
            name=names.reconstruction_name(job.film, job.id),
            model=stored_model_message(job.model),
            settings=settings_message(job.settings),
            estimated_frames=film.facts.estimated_frames or 0,
            rendition=names.rendition_name(job.film, job.rendition),
        )
        message.create_time.FromDatetime(job.created)
        manifest = self._library.renditions.find(film.id, job.rendition)
        if manifest is not None:
            message.frames = message.estimated_frames = manifest.frames
            message.position.CopyFrom(exact_duration(manifest.duration))
        elif record := newest_record(self._library.store, film.id, job.rendition):
            message.frames = record.resume.frames
            message.position.CopyFrom(exact_duration(record.resume.position))
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


def _job_id(request_id: str) -> str:
    if not request_id:
        return secrets.token_hex(8)
    return hashlib.sha256(request_id.encode()).hexdigest()[:16]


def _job(film: Film, job_id: str, model: ModelVersion, settings: OutputSettings, asked: str) -> Job:
    stored = Target(film, model, settings).stored_model
    return Job(film.id, film.uid, job_id, stored, settings, asked, datetime.now(UTC))
