"""ReconstructVideo: its messages, and what they mean to the pipeline."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import library_pb2

from service.errors import InvalidFieldError
from service.inference import Models, ModelVersion
from service.library.upload_records import UploadSettings
from service.renditions import (
    Event,
    FilmOpened,
    LatentsMade,
    OutputChunk,
    Progress,
    Reconstruction,
    ReconstructionSettings,
    Reconstructor,
    Registry,
    StageSeconds,
    Summary,
    Target,
    Watching,
    watch,
)
from service.rpc import messages
from service.rpc.call import Context, current_call
from service.rpc.messages import exact_duration, facts_message, output_settings
from service.rpc.names import film_name, parse_film_name, rendition_name
from service.rpc.requests import chunks_of, first_request
from service.rpc.upload_film import upload_settings


class VideoCalls:
    """The call that reconstructs a film while it is sent."""

    def __init__(
        self,
        models: Models,
        reconstructor: Reconstructor,
        registry: Registry,
        *,
        idle_seconds: float,
    ) -> None:
        self._models = models
        self._reconstructor = reconstructor
        self._registry = registry
        self._idle_seconds = idle_seconds

    async def ReconstructVideo(
        self,
        requests: AsyncIterator[pb.ReconstructVideoRequest],
        context: "Context[pb.ReconstructVideoRequest, pb.ReconstructVideoResponse]",
    ) -> AsyncIterator[pb.ReconstructVideoResponse]:
        """Reconstruct a film."""
        first = await first_request(requests, "settings", "the film's bytes", self._idle_seconds)
        settings = first.settings
        call = current_call()
        call.model = model = messages.resolve(self._models, settings.model, "settings.model")
        reconstruction = await self._begin(settings, model, requests)
        # At once when the caller leaves or its deadline passes: this generator may then be waiting
        # in a write, and be closed later.
        # The stub's callback type is a class where a protocol is meant: nothing can match it.
        context.add_done_callback(lambda _: reconstruction.cancel())  # type: ignore[arg-type]
        async with aclosing(reconstruction.events()) as events:
            async for event in events:
                if isinstance(event, Progress):
                    call.frames = event.frames_written
                yield _response(event, model)

    async def _begin(
        self,
        settings: pb.ReconstructVideoSettings,
        model: ModelVersion,
        requests: AsyncIterator[pb.ReconstructVideoRequest],
    ) -> Reconstruction | Watching:
        if settings.film:
            return await self._view(settings, model, requests)
        return self._reconstructor.start(
            ReconstructionSettings(
                model=model,
                output=output_settings(settings),
                include_latents=settings.include_latents,
                film_bytes=settings.film_size_bytes or None,
                store=_store(settings),
            ),
            chunks_of(requests, "settings"),
        )

    async def _view(
        self,
        settings: pb.ReconstructVideoSettings,
        model: ModelVersion,
        requests: AsyncIterator[pb.ReconstructVideoRequest],
    ) -> Watching:
        for field in ("film_size_bytes", "store", "title", "film_id"):
            if getattr(settings, field):
                raise InvalidFieldError(
                    f"settings.{field}",
                    "is for a film that the caller sends, and settings.film names one of the "
                    "library; set one of them",
                    reason="CONFLICTING_SETTINGS",
                )
        film_id = parse_film_name(settings.film, "settings.film")
        library = self._registry.library
        film = await library.threads.run(library.films.get, film_id)
        target = Target(film, model, output_settings(settings))
        watching = await watch(self._registry, target, include_latents=settings.include_latents)
        watching.watch(_nothing_else(requests))
        return watching


def _store(settings: pb.ReconstructVideoSettings) -> UploadSettings | None:
    """Return how the caller's own film shall be kept; None: not at all."""
    if settings.store:
        return upload_settings(
            library_pb2.UploadSettings(
                film_id=settings.film_id,
                title=settings.title,
                film_size_bytes=settings.film_size_bytes,
            ),
            "settings",
        )
    for field in ("title", "film_id"):
        if getattr(settings, field):
            raise InvalidFieldError(
                f"settings.{field}",
                "is for a film that is kept; set settings.store as well",
                reason="CONFLICTING_SETTINGS",
            )
    return None


async def _nothing_else(requests: AsyncIterator[pb.ReconstructVideoRequest]) -> None:
    """Read until the caller has sent all; raises InvalidFieldError for any message."""
    async for _ in requests:
        raise InvalidFieldError(
            "chunk",
            "settings.film names a film of the library; send no bytes",
            reason="UNEXPECTED_CHUNK",
        )


def _response(event: Event, model: ModelVersion) -> pb.ReconstructVideoResponse:
    match event:
        case OutputChunk():
            return pb.ReconstructVideoResponse(chunk=event.data)
        case Progress():
            return pb.ReconstructVideoResponse(progress=_progress(event))
        case LatentsMade():
            return pb.ReconstructVideoResponse(
                latents=pb.LatentBatch(
                    pts=event.pts.tolist(), values=event.latents.ravel().tolist()
                )
            )
        case FilmOpened():
            return pb.ReconstructVideoResponse(film=_facts(event, model))
        case Summary():
            return pb.ReconstructVideoResponse(summary=_summary(event, model))


def _progress(progress: Progress) -> pb.ReconstructVideoProgress:
    return pb.ReconstructVideoProgress(
        bytes_received=progress.bytes_received,
        frames_decoded=progress.frames_decoded,
        frames_reconstructed=progress.frames_reconstructed,
        frames_written=progress.frames_written,
        position=exact_duration(progress.position),
        frames_reused=progress.frames_reused,
    )


def _facts(opened: FilmOpened, model: ModelVersion) -> pb.FilmFacts:
    message = facts_message(opened.facts)
    message.model.CopyFrom(messages.model_identity(model))
    message.output_width, message.output_height = opened.output_size
    return message


def _summary(summary: Summary, model: ModelVersion) -> pb.ReconstructVideoSummary:
    return pb.ReconstructVideoSummary(
        frames=summary.frames,
        duration=exact_duration(summary.duration),
        bytes_received=summary.bytes_received,
        bytes_sent=summary.bytes_sent,
        film_digest=summary.film_digest,
        model=messages.model_identity(model),
        stage_times=_stage_times(summary.stage_seconds),
        warnings=summary.warnings,
        film=film_name(summary.film) if summary.film else "",
        rendition=rendition_name(summary.film, summary.rendition) if summary.film else "",
    )


def _stage_times(seconds: StageSeconds) -> pb.StageTimes:
    return pb.StageTimes(
        read=messages.duration(seconds.read),
        encode=messages.duration(seconds.encode),
        decode=messages.duration(seconds.decode),
        write=messages.duration(seconds.write),
    )
