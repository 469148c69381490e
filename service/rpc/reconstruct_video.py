"""ReconstructVideo: maps its messages to the pipeline."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import library_pb2

from service.inference import Models
from service.library.upload_records import UploadSettings
from service.renditions import Progress, ReconstructionSettings, Reconstructor
from service.rpc import messages
from service.rpc.call import Context, current_call
from service.rpc.reconstruction_messages import event_message, output_settings
from service.rpc.requests import chunks_of, first_request
from service.rpc.upload_film import upload_settings


class VideoCalls:
    """Handles ReconstructVideo: reconstructs a film while it is sent."""

    def __init__(
        self, models: Models, reconstructor: Reconstructor, *, idle_seconds: float
    ) -> None:
        self._models = models
        self._reconstructor = reconstructor
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
        reconstruction = self._reconstructor.start(
            ReconstructionSettings(
                model=model,
                output=output_settings(settings.rendition, "settings.rendition"),
                include_latents=settings.include_latents,
                film_bytes=settings.film_size_bytes or None,
                store=_store(settings),
            ),
            chunks_of(requests, "settings"),
        )
        # Cancel at once when the caller disconnects or its deadline expires: this generator may
        # then be blocked in a write, and closed only later.
        # The stub types the callback as a class, not a protocol: nothing can match it.
        context.add_done_callback(lambda _: reconstruction.cancel())  # type: ignore[arg-type]
        async with aclosing(reconstruction.events()) as events:
            async for event in events:
                if isinstance(event, Progress):
                    call.frames = event.frames_written
                yield event_message(pb.ReconstructVideoResponse, event, model)


def _store(settings: pb.ReconstructVideoSettings) -> UploadSettings | None:
    """Return how to store the film in the library; None: not at all."""
    if not settings.HasField("store"):
        return None
    return upload_settings(
        library_pb2.UploadSettings(
            film_id=settings.store.film_id,
            title=settings.store.title,
            film_size_bytes=settings.film_size_bytes,
        ),
        "settings.store",
    )
