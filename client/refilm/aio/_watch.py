"""Reconstructions of the library's films, while they are made or from what is stored."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing

from refilm import _wire as wire
from refilm._film_values import Film
from refilm._latents import LatentsFile
from refilm._names import film_name
from refilm._output import FilmSink, Output
from refilm._progress import Meter
from refilm._values import Layout, ModelIdentity, Progress, Quality, Reconstruction, Size
from refilm.aio._calls import Calls
from refilm.aio._reconstruction import ReconstructionEvent, reconstruction_events, written
from refilm.v1 import library_pb2 as pb


class WatchCalls(Calls):
    """The part of the client that watches renditions of the library's films."""

    async def watch(
        self,
        film: str | Film,
        out: FilmSink,
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        layout: Layout = "reconstruction",
        size: Size = "model",
        sound: bool = True,
        quality: Quality = "standard",
        latents: str | os.PathLike[str] | None = None,
        progress: Callable[[Progress], object] | None = None,
        timeout: float | None = None,
    ) -> Reconstruction:
        """Reconstructs a film of the library into a file, which is never held in memory whole.

        Existing parts of the rendition arrive at once; new ones are stored in the library, even if
        this call is interrupted, and are not made again. A path `out` is written atomically.

        Args:
            film: Which.
            out: The reconstruction's path (an .mp4), or a file object to write it to.
            model: As for `encode`.
            version: As for `encode`.
            layout: As for `reconstruct`.
            size: As for `reconstruct`.
            sound: As for `reconstruct`.
            quality: As for `reconstruct`.
            latents: As for `reconstruct`.
            progress: As for `reconstruct`.
            timeout: Seconds; None for the client's `stream_timeout`.

        Raises:
            NotFoundError: The library has no such film (any more), or the service no such model.
            OverloadedError: The service is overloaded.
            RefilmError: The call failed for another reason.
            ValueError: A setting is unknown.
            OSError: A file cannot be written.
        """
        with ExitStack() as files:
            output = files.enter_context(Output(out))
            saved = None if latents is None else files.enter_context(LatentsFile(latents))
            events = self.watch_stream(
                film,
                model=model,
                version=version,
                layout=layout,
                size=size,
                sound=sound,
                quality=quality,
                latents=saved is not None,
                timeout=timeout,
            )
            return await written(events, output, saved, progress)

    async def watch_stream(
        self,
        film: str | Film,
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        layout: Layout = "reconstruction",
        size: Size = "model",
        sound: bool = True,
        quality: Quality = "standard",
        latents: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[ReconstructionEvent]:
        """Reconstructs a film of the library and yields the results as they arrive.

        The events are those of `reconstruct_stream`, the arguments and errors those of `watch`.
        Leaving the loop early ends the call once this iterator is closed.
        """
        request = pb.WatchReconstructionRequest(
            rendition=pb.WatchedRendition(
                film=film_name(film),
                model=wire.selector(model, version),
                settings=wire.rendition_settings(
                    layout=layout, size=size, sound=sound, quality=quality
                ),
                include_latents=latents,
            )
        )
        responses = self._transport.answers(self._library.WatchReconstruction, request, timeout)
        events = reconstruction_events(responses, Meter(None))
        async with aclosing(events):
            async for event in events:
                yield event
