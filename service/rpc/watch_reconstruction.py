"""WatchReconstruction: streams a rendition while it is made, or a reconstruction's progress."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from refilm.v1 import library_pb2 as pb

from service.errors import InvalidFieldError, UnavailableError
from service.inference import Models
from service.renditions import Progress, Registry, Target, watch
from service.rpc import messages
from service.rpc.call import Context, current_call
from service.rpc.names import parse_film_name
from service.rpc.reconstruction_messages import event_message, output_settings
from service.rpc.stored_reconstructions import ENDED_STATES, StoredReconstructions

_SHORTEST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
"""Seconds between polls of a reconstruction; longer while it does not change."""
_RETRY_SECONDS: Final = 1.0


class WatchCalls:
    """Handles WatchReconstruction."""

    def __init__(self, models: Models, registry: Registry, draining: asyncio.Event) -> None:
        """Handle calls; those that only wait end once the service is `draining`."""
        self._models = models
        self._registry = registry
        self._library = registry.library
        self._stored = StoredReconstructions(registry.library)
        self._draining = draining

    async def WatchReconstruction(
        self,
        request: pb.WatchReconstructionRequest,
        context: "Context[pb.WatchReconstructionRequest, pb.WatchReconstructionResponse]",
    ) -> AsyncIterator[pb.WatchReconstructionResponse]:
        """Watch a rendition as it is made, or wait for a reconstruction."""
        match request.WhichOneof("target"):
            case "rendition":
                responses = self._rendition(request.rendition, context)
            case "reconstruction":
                responses = self._reconstruction(request.reconstruction)
            case _:
                raise InvalidFieldError(
                    "target",
                    "is missing; set rendition or reconstruction",
                    reason="TARGET_REQUIRED",
                )
        async with aclosing(responses):
            async for response in responses:
                yield response

    async def _rendition(
        self,
        wanted: pb.WatchedRendition,
        context: "Context[pb.WatchReconstructionRequest, pb.WatchReconstructionResponse]",
    ) -> AsyncGenerator[pb.WatchReconstructionResponse, None]:
        """Yield events until the whole rendition has been streamed."""
        film_id = parse_film_name(wanted.film, "rendition.film")
        call = current_call()
        call.model = model = messages.resolve(self._models, wanted.model, "rendition.model")
        settings = output_settings(wanted.settings, "rendition.settings")
        film = await self._library.threads.run(self._library.films.get, film_id)
        watching = await watch(
            self._registry, Target(film, model, settings), include_latents=wanted.include_latents
        )
        # Cancel at once when the caller disconnects or its deadline expires: this generator may
        # then be blocked in a write, and closed only later.
        # The stub types the callback as a class, not a protocol: nothing can match it.
        context.add_done_callback(lambda _: watching.cancel())  # type: ignore[arg-type]
        async with aclosing(watching.events()) as events:
            async for event in events:
                if isinstance(event, Progress):
                    call.frames = event.frames_written
                yield event_message(pb.WatchReconstructionResponse, event, model)

    async def _reconstruction(
        self, name: str
    ) -> AsyncGenerator[pb.WatchReconstructionResponse, None]:
        """Yield a reconstruction whenever it has changed, until it has ended.

        Reads only the store: the job may run on another replica.
        """
        known: pb.Reconstruction | None = None
        pause = _SHORTEST_PAUSE
        while True:
            now = await self._library.threads.run(self._stored.current, name, "reconstruction")
            if now != known:
                yield pb.WatchReconstructionResponse(reconstruction=now)
                pause = _SHORTEST_PAUSE
            if now.state in ENDED_STATES:
                return
            known = now
            with suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), pause)
                raise UnavailableError(
                    "the service is ending, and the reconstruction goes on; watch it again",
                    reason="DRAINING",
                    retry_after=_RETRY_SECONDS,
                )
            pause = min(_LONGEST_PAUSE, pause * 1.5)
