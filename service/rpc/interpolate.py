"""Interpolate: resolves both ends and their model, and returns pictures or a film between them."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from refilm.v1 import latents_pb2 as pb

from film.errors import FilmError, FilmLimitError
from film.process.film_process import FilmProcesses
from film.process.picture_protocol import ImageFormat
from service.errors import DigestMismatchError, InvalidFieldError, ServerSideError, ServiceError
from service.film_errors import limit_error, translated_process_errors
from service.inference import Inference, Models, ModelVersion
from service.library.films import Film
from service.library.latents import Latents
from service.limit import Limit
from service.rpc import messages
from service.rpc.call import Context, current_call
from service.rpc.durations import seconds_of
from service.rpc.film_latents import FilmLatents
from service.rpc.film_watch import FilmWatch
from service.rpc.picture_calls import Pictures
from service.search.interpolation import Mode, decoded, interpolate

MAX_STEPS = 1000
MAX_CHUNK_BYTES = 2**20
DEFAULT_FRAME_RATE = Fraction(24)
MAX_FRAME_RATE = 120
FINEST_FRAME_RATE = 1001
"""The largest denominator of a frame rate, as in 24000/1001."""
_LOOK_SECONDS = 1.0

_MODES = {
    pb.INTERPOLATION_MODE_UNSPECIFIED: Mode.LINEAR,
    pb.INTERPOLATION_MODE_LINEAR: Mode.LINEAR,
    pb.INTERPOLATION_MODE_SPHERICAL: Mode.SPHERICAL,
}
_PICTURES: dict[int, ImageFormat | None] = {
    pb.INTERPOLATION_FORMAT_UNSPECIFIED: "jpeg",
    pb.INTERPOLATION_FORMAT_JPEG: "jpeg",
    pb.INTERPOLATION_FORMAT_PNG: "png",
    pb.INTERPOLATION_FORMAT_RAW: None,
}

Result = TypeVar("Result")
Latent = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Moment:
    field: str
    film: Film
    seconds: Fraction


@dataclass(frozen=True, slots=True)
class _Given:
    field: str
    latent: Latent
    digest: str
    """Digest of the model that made it; empty: the request's model."""


class InterpolateCalls:
    """Handles Interpolate."""

    def __init__(
        self,
        models: Models,
        inference: Inference,
        film_latents: FilmLatents,
        latents: Latents,
        processes: FilmProcesses,
        films: Limit,
        pictures: Pictures,
    ) -> None:
        self._models = models
        self._inference = inference
        self._film_latents = film_latents
        self._latents = latents
        self._processes = processes
        self._films = films
        self._pictures = pictures

    async def Interpolate(
        self,
        request: pb.InterpolateRequest,
        context: "Context[pb.InterpolateRequest, pb.InterpolateResponse]",
    ) -> AsyncIterator[pb.InterpolateResponse]:
        """Interpolate between two latents: the model, and then pictures or a film's bytes."""
        steps, mode, rate = _settings(request)
        ends = [
            await self._end(request.start, "start"),
            await self._end(request.end, "end"),
        ]
        model = await self._model(request, ends)
        current_call().model = model
        first, last = [await self._latent(end, model) for end in ends]
        latents = interpolate(first, last, steps, mode)

        films = [end.film for end in ends if isinstance(end, _Moment)]
        watch = _Watch(self._film_latents.watch, films)
        await watch.look()
        yield pb.InterpolateResponse(model=messages.model_identity(model))
        async with aclosing(decoded(self._inference, model, latents)) as batches:
            answers = (
                self._film(batches, rate, steps)
                if request.format == pb.INTERPOLATION_FORMAT_MP4
                else self._frames(batches, _PICTURES[request.format])
            )
            async with aclosing(answers):
                async for message in answers:
                    await watch.look()
                    yield message

    async def _end(self, end: pb.InterpolationEnd, field: str) -> _Moment | _Given:
        match end.WhichOneof("end"):
            case "moment":
                film = await self._film_latents.film(end.moment.film, f"{field}.moment.film")
                seconds = seconds_of(end.moment.time, f"{field}.moment.time")
                return _Moment(field, film, seconds)
            case "latent":
                digest = end.latent.model_digest
                if digest:
                    messages.digest_of(digest, f"{field}.latent.model_digest")
                latent = messages.latent(end.latent, f"{field}.latent")
                return _Given(field, latent, digest)
            case _:
                raise InvalidFieldError(
                    field, "is missing; set a moment or a latent", reason="END_REQUIRED"
                )

    async def _model(
        self, request: pb.InterpolateRequest, ends: list[_Moment | _Given]
    ) -> ModelVersion:
        """Return the model for decoding; raises DigestMismatchError if an end is of another one."""
        if messages.is_empty(request.model):
            model = self._models.resolve(digest=await self._digest_of(ends))
        else:
            model = messages.resolve(self._models, request.model)
        for end in ends:
            if isinstance(end, _Given) and end.digest not in ("", model.digest):
                raise _mismatch(
                    f"{end.field}.latent is of the model {end.digest}, and {model.digest} decodes",
                    end.digest,
                    model.digest,
                )
        return model

    async def _digest_of(self, ends: list[_Moment | _Given]) -> str:
        """Return the only digest that fits both ends; "" if several do: the default model."""
        choices = []
        for end in ends:
            if isinstance(end, _Moment):
                stored = await self._film_latents.all_of(end.film)
                choices.append({manifest.model.digest for manifest in stored})
            elif end.digest:
                choices.append({end.digest})
        if not choices:
            return ""
        common = set.intersection(*choices)
        if not common:
            first, last = (min(choice) for choice in choices)
            raise _mismatch(
                f"the start is of the model {first}, the end of {last}; latents of different "
                "models do not meet",
                first,
                last,
            )
        return common.pop() if len(common) == 1 else ""

    async def _latent(self, end: _Moment | _Given, model: ModelVersion) -> Latent:
        if isinstance(end, _Given):
            return end.latent
        manifest = await self._film_latents.of_digest(end.film, model.digest)

        def read() -> Latent:
            row = self._latents.row_at(manifest, end.seconds)
            return self._latents.latents(manifest, row, row + 1).reshape(-1)

        return await self._film_latents.read(end.film, read)

    async def _frames(
        self,
        batches: AsyncIterator[NDArray[np.uint8]],
        image_format: ImageFormat | None,
    ) -> AsyncGenerator[pb.InterpolateResponse, None]:
        async for frames in batches:
            for message in await self._pictures.messages(frames, image_format):
                current_call().frames += 1
                yield pb.InterpolateResponse(frame=message)

    async def _film(
        self, batches: AsyncIterator[NDArray[np.uint8]], rate: Fraction, steps: int
    ) -> AsyncGenerator[pb.InterpolateResponse, None]:
        """Write the film batch by batch; only one batch's output is kept in memory."""
        with self._films, translated_process_errors(_unreadable):
            async with self._processes.film() as film:
                await film.begin_sequence(rate, steps)
                async for frames in batches:
                    for chunk in _chunks((await film.write_frames(frames)).data):
                        yield pb.InterpolateResponse(chunk=chunk)
                    current_call().frames += len(frames)
                for chunk in _chunks((await film.close()).data):
                    yield pb.InterpolateResponse(chunk=chunk)


class _Watch:
    """Checks about once a second that the films of both ends exist."""

    def __init__(self, watch: FilmWatch, films: list[Film]) -> None:
        self._watch = watch
        self._films = films
        self._looked: float | None = None

    async def look(self) -> None:
        """Raise NotFoundError if one was deleted; checks at most once a second."""
        if self._looked is None or time.monotonic() - self._looked >= _LOOK_SECONDS:
            for film in self._films:
                await self._watch.require(film)
            self._looked = time.monotonic()


def _settings(request: pb.InterpolateRequest) -> tuple[int, Mode, Fraction]:
    if not 2 <= request.steps <= MAX_STEPS:
        raise InvalidFieldError(
            "steps",
            f"is {request.steps}; must be from 2 (both ends) to {MAX_STEPS}",
            reason="INVALID_STEPS",
        )
    if request.mode not in _MODES:
        raise InvalidFieldError(
            "mode", f"{request.mode} is no InterpolationMode", reason="INVALID_MODE"
        )
    if request.format not in pb.InterpolationFormat.values():
        raise InvalidFieldError(
            "format", f"{request.format} is no InterpolationFormat", reason="INVALID_FORMAT"
        )
    return request.steps, _MODES[request.mode], _frame_rate(request)


def _frame_rate(request: pb.InterpolateRequest) -> Fraction:
    if not request.HasField("frame_rate"):
        return DEFAULT_FRAME_RATE
    over, under = request.frame_rate.numerator, request.frame_rate.denominator
    if not (1 <= under <= FINEST_FRAME_RATE and under <= over <= MAX_FRAME_RATE * under):
        raise InvalidFieldError(
            "frame_rate",
            f"is {over}/{under}; must be from 1 to {MAX_FRAME_RATE}, and its denominator from 1 to "
            f"{FINEST_FRAME_RATE}",
            reason="INVALID_FRAME_RATE",
        )
    return Fraction(over, under)


def _mismatch(message: str, one: str, other: str) -> DigestMismatchError:
    return DigestMismatchError(message, metadata={"first_digest": one, "second_digest": other})


def _chunks(data: bytes) -> list[bytes]:
    return [data[at : at + MAX_CHUNK_BYTES] for at in range(0, len(data), MAX_CHUNK_BYTES)]


def _unreadable(error: FilmError) -> ServiceError:
    """Return the error for a film written here, which is never the caller's fault."""
    if isinstance(error, FilmLimitError) and error.limit:
        return limit_error(error)
    return ServerSideError("the film cannot be written")
