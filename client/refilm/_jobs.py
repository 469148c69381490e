# Made of refilm/aio/_jobs.py by `make proto`: edit that.
"""Reconstructions that outlive calls."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from contextlib import closing

import grpc

from refilm import _film_wire as wire
from refilm._calls import Calls
from refilm._errors import DeadlineError, UnavailableError
from refilm._film_values import Film, ReconstructionJob
from refilm._names import film_name
from refilm._tries import Tries
from refilm._values import Layout, ModelIdentity, Quality, Size
from refilm._wire import rendition_settings, selector
from refilm.v1 import library_pb2 as pb


class JobCalls(Calls):
    """The part of the client that starts reconstructions and waits for them."""

    def start_reconstruction(
        self,
        film: str | Film,
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        layout: Layout = "reconstruction",
        size: Size = "model",
        sound: bool = True,
        quality: Quality = "standard",
        request_id: str = "",
        timeout: float | None = None,
    ) -> ReconstructionJob:
        """Starts to reconstruct a film of the library; a restarted service resumes the job.

        If the rendition exists, the job has succeeded at once.

        Args:
            film: Which.
            model: As for `encode`.
            version: As for `encode`.
            layout: As for `reconstruct`.
            size: As for `reconstruct`.
            sound: As for `reconstruct`.
            quality: As for `reconstruct`.
            request_id: A UUID that identifies a repeated call. If omitted, one is generated, which
                all attempts of this call share.
            timeout: Seconds; None for the client's.

        Raises:
            NotFoundError: The library has no such film, or the service no such model.
            RefilmError: The call failed for another reason.
            ValueError: A setting is unknown.
        """
        request = pb.StartReconstructionRequest(
            film=film_name(film),
            model=selector(model, version),
            settings=rendition_settings(layout=layout, size=size, sound=sound, quality=quality),
            request_id=request_id or str(uuid.uuid4()),
        )
        answer = self._transport.unary(self._library.StartReconstruction, request, timeout)
        return wire.job(answer.reconstruction)

    def reconstruction(
        self, job: str | ReconstructionJob, *, timeout: float | None = None
    ) -> ReconstructionJob:
        """Gets a job with its progress.

        Raises:
            NotFoundError: There is no such job.
            RefilmError: The call failed for another reason.
        """
        request = pb.GetReconstructionRequest(name=_job_name(job))
        answer = self._transport.unary(self._library.GetReconstruction, request, timeout)
        return wire.job(answer.reconstruction)

    def cancel_reconstruction(
        self, job: str | ReconstructionJob, *, timeout: float | None = None
    ) -> ReconstructionJob:
        """Cancels a job; what is finished is kept for the next. An ended job stays as it is.

        Raises:
            NotFoundError: There is no such job.
            RefilmError: The call failed for another reason.
        """
        request = pb.CancelReconstructionRequest(name=_job_name(job))
        answer = self._transport.unary(self._library.CancelReconstruction, request, timeout)
        return wire.job(answer.reconstruction)

    def reconstructions(
        self, film: str | Film | None = None, *, timeout: float | None = None
    ) -> Generator[ReconstructionJob]:
        """Yields the jobs of one film, or of all, by name.

        Raises:
            NotFoundError: The library has no such film.
            RefilmError: The call failed for another reason.
        """
        parent = "films/-" if film is None else film_name(film)
        token = ""
        while True:
            request = pb.ListReconstructionsRequest(parent=parent, page_token=token)
            page = self._transport.unary(self._library.ListReconstructions, request, timeout)
            for message in page.reconstructions:
                yield wire.job(message)
            token = page.next_page_token
            if not token:
                return

    def wait_for_reconstruction(
        self,
        job: str | ReconstructionJob,
        *,
        progress: Callable[[ReconstructionJob], object] | None = None,
        timeout: float | None = None,
    ) -> ReconstructionJob:
        """Waits until a job has ended, also across restarts of the service.

        Args:
            job: Which.
            progress: Called whenever the job has changed.
            timeout: Seconds; None for the client's `stream_timeout`. The job continues afterwards.

        Returns:
            The job as it ended: `state` says how, and `fault` why if it failed.

        Raises:
            DeadlineError: The job has not ended within the timeout.
            NotFoundError: There is no such job, or its film was deleted.
            RefilmError: The call failed for another reason.
        """
        tries = Tries(self._transport.transfer_timeout(timeout))
        request = pb.WatchReconstructionRequest(reconstruction=_job_name(job))
        known: ReconstructionJob | None = None
        while tries.left():
            answers = self._transport.answers(
                self._library.WatchReconstruction, request, tries.left()
            )
            try:
                with closing(answers):
                    for answer in answers:
                        now = wire.job(answer.reconstruction)
                        tries.went_on()
                        if now != known and progress is not None:
                            progress(now)
                        if now.done:
                            return now
                        known = now
                raise UnavailableError(
                    "the service ended the watching before the reconstruction had ended",
                    code=grpc.StatusCode.UNAVAILABLE,
                )
            except UnavailableError as error:
                # Before the first answer it is not known whether there is a service at all.
                if known is None:
                    raise
                self._transport.pause(tries.pause_after(error))
            except DeadlineError:
                break
        raise DeadlineError(
            f"{_job_name(job)} had not ended in time", code=grpc.StatusCode.DEADLINE_EXCEEDED
        )


def _job_name(job: str | ReconstructionJob) -> str:
    return job if isinstance(job, str) else job.name
