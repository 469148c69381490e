"""Reconstructions that outlive their calls: maps their messages to jobs."""

import hashlib
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Final

from pydantic import StringConstraints, TypeAdapter
from refilm.v1 import library_pb2 as pb

from film.output import OutputSettings
from service.errors import InvalidFieldError, NotFoundError
from service.inference import Models, ModelVersion
from service.library.films import Film
from service.library.job_records import Job, JobEnd, JobName
from service.renditions import JobRunner, Registry, Target
from service.rpc import messages, names
from service.rpc.call import Context, current_call
from service.rpc.pages import FilmId, PageTokens, page_size
from service.rpc.reconstruction_messages import output_settings
from service.rpc.requests import check_request_id
from service.rpc.stored_reconstructions import StoredReconstructions

_FILMS_LOOKED_AT: Final = 500
"""Maximum number of films searched for one page of the reconstructions of all films."""

_BEHIND_ALL: Final = "~"
"""Sorts after every reconstruction id."""
_TOKENS: Final = PageTokens(
    "reconstructions",
    TypeAdapter(
        tuple[FilmId, Annotated[str, StringConstraints(pattern="^(~|[a-z0-9][a-z0-9-]{0,127})$")]]
    ),
)


class ReconstructionCalls:
    """Handlers for reconstructions that outlive their calls."""

    def __init__(self, models: Models, registry: Registry, runner: JobRunner) -> None:
        self._models = models
        self._registry = registry
        self._jobs = registry.library.jobs
        self._runner = runner
        self._library = registry.library
        self._stored = StoredReconstructions(registry.library)
        self._run = self._library.threads.run

    async def StartReconstruction(
        self,
        request: pb.StartReconstructionRequest,
        context: "Context[pb.StartReconstructionRequest, pb.StartReconstructionResponse]",
    ) -> pb.StartReconstructionResponse:
        """Start a reconstruction; idempotent for the same request id."""
        film_id = names.parse_film_name(request.film, "film")
        check_request_id(request.request_id)
        settings = output_settings(request.settings, "settings")
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
        self._runner.poll_soon()
        return pb.StartReconstructionResponse(
            reconstruction=await self._run(self._stored.message, job, film)
        )

    async def GetReconstruction(
        self,
        request: pb.GetReconstructionRequest,
        context: "Context[pb.GetReconstructionRequest, pb.GetReconstructionResponse]",
    ) -> pb.GetReconstructionResponse:
        """Get a reconstruction's state and progress."""
        return pb.GetReconstructionResponse(
            reconstruction=await self._run(self._stored.current, request.name, "name")
        )

    async def CancelReconstruction(
        self,
        request: pb.CancelReconstructionRequest,
        context: "Context[pb.CancelReconstructionRequest, pb.CancelReconstructionResponse]",
    ) -> pb.CancelReconstructionResponse:
        """Cancel a job; the replica that runs it notices within a second or two."""
        job, film = await self._run(self._stored.find, request.name, "name")
        await self._run(self._jobs.end, job.name, JobEnd.now("cancelled"))
        self._runner.poll_soon()
        return pb.CancelReconstructionResponse(
            reconstruction=await self._run(self._stored.message, job, film)
        )

    async def ListReconstructions(
        self,
        request: pb.ListReconstructionsRequest,
        context: "Context[pb.ListReconstructionsRequest, pb.ListReconstructionsResponse]",
    ) -> pb.ListReconstructionsResponse:
        """List the reconstructions of a film or of all films."""
        film_id = names.parse_parent_name(request.parent, "parent")
        size = page_size(request.page_size)
        after = _TOKENS.after(request.page_token, request.parent) or ("", "")
        return await self._run(self._page, film_id, size, after, request.parent)

    # Run on the storage threads.

    def _keep(self, job: Job, film: Film) -> Job:
        kept = self._jobs.create(job)
        try:
            self._library.films.require(film.id, film.uid)
        except NotFoundError:
            self._jobs.forget(job.name)
            raise
        if self._library.renditions.find(film.id, kept.rendition) is not None:
            self._jobs.end(kept.name, JobEnd.now("succeeded"))
        return kept

    def _page(
        self, film_id: str | None, size: int, after: tuple[str, str], parent: str
    ) -> pb.ListReconstructionsResponse:
        response = pb.ListReconstructionsResponse()
        film_after, job_after = after
        if film_id is not None:
            films: Iterator[Film] = iter([self._library.films.get(film_id)])
        else:
            films = self._films(film_after, job_after)
        for looked_at, film in enumerate(films, start=1):
            left = size - len(response.reconstructions)
            resumed = job_after if film.id == film_after else ""
            found = list(islice(self._jobs.list(film.id, after=resumed), left + 1))
            response.reconstructions.extend(self._stored.message(job, film) for job in found[:left])
            if len(found) > left:
                if left:
                    after = (film.id, found[left - 1].id)
                response.next_page_token = _TOKENS.token(after, parent)
                break
            after = (film.id, _BEHIND_ALL)
            if looked_at == _FILMS_LOOKED_AT:
                response.next_page_token = _TOKENS.token(after, parent)
                break
        return response

    def _films(self, after: str, job_after: str) -> Iterator[Film]:
        """Yield films, starting with the one whose reconstructions are partly listed."""
        if job_after and job_after != _BEHIND_ALL and (film := self._library.films.find(after)):
            yield film
        yield from self._library.films.list(after=after)


def _job_id(request_id: str) -> str:
    if not request_id:
        return secrets.token_hex(8)
    return hashlib.sha256(request_id.encode()).hexdigest()[:16]


def _job(film: Film, job_id: str, model: ModelVersion, settings: OutputSettings, asked: str) -> Job:
    stored = Target(film, model, settings).stored_model
    return Job(film.id, film.uid, job_id, stored, settings, asked, datetime.now(UTC))
