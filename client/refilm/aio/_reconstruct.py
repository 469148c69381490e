"""Films as a model remembers them."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import ExitStack, aclosing, closing

import grpc

from refilm import _wire as wire
from refilm._errors import DataLossError, InternalError
from refilm._film_values import Film
from refilm._latents import LatentsFile
from refilm._names import library_film
from refilm._output import FilmSink, Output
from refilm._progress import Meter
from refilm._source import FilmSource, Source
from refilm._values import (
    FilmFacts,
    LatentBatch,
    Layout,
    ModelIdentity,
    Progress,
    Quality,
    Reconstruction,
    Size,
)
from refilm.aio._calls import Calls
from refilm.aio._platform import blocking
from refilm.v1 import autoencoder_pb2 as pb

ReconstructionEvent = FilmFacts | Progress | LatentBatch | bytes | Reconstruction
"""What `Client.reconstruct_stream` yields."""

_CHUNK_BYTES = 256 * 1024


class ReconstructionCalls(Calls):
    """The part of the client that reconstructs films while the caller waits."""

    async def reconstruct(
        self,
        source: FilmSource | Film,
        out: FilmSink,
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        layout: Layout = "reconstruction",
        size: Size = "model",
        sound: bool = True,
        quality: Quality = "standard",
        latents: str | os.PathLike[str] | None = None,
        store: bool = False,
        title: str = "",
        film_id: str = "",
        progress: Callable[[Progress], object] | None = None,
        timeout: float | None = None,
    ) -> Reconstruction:
        """Reconstructs a film into a file. Neither is ever whole in memory.

        A path `out` is written to whole or not at all: the film appears under its name, replacing
        what lay there, when it is complete. Of a film of the library, what exists already comes at
        once; what is made is kept there, also when this call is cut, and is not made again.

        Args:
            source: The film's path, or a file object to read it from. A `Film`, or a string that
                is a film's name, "films/{film}", is the library's.
            out: The reconstruction's path (an .mp4), or a file object to write it to.
            model: As for `encode`.
            version: As for `encode`.
            layout: The "reconstruction", or the source on its left ("side_by_side").
            size: The "model"'s own, 256 x 144, or the "source"'s, at most 1920 x 1080.
            sound: Whether the film's sound is kept.
            quality: Of the video encoding: "draft", "standard" or "high".
            latents: Where to save every frame's latent: a .npy ([N, 200] float32), or a .npz that
                also holds their presentation times and the model.
            store: Whether the library keeps a film of one's own, with its latents and this
                rendition; `Reconstruction.film_name` then names it.
            title: Where it is stored: what people call it.
            film_id: Where it is stored: its id, as for `upload_film`.
            progress: Called about twice a second with how far the work is.
            timeout: Seconds; None for the client's `stream_timeout`.

        Raises:
            DataLossError: The film breaks off or is damaged. What could be made of it is kept
                beside `out` as "<stem>.partial<suffix>", which `partial` names.
            InvalidRequestError: It is no film, or has no moving picture.
            NotFoundError: The library has no such film.
            AlreadyExistsError: Another film has the id, or had it.
            OverloadedError: The service has no room, or the film is larger than it takes.
            RefilmError: As for `encode`, and whatever else the call ended with.
            ValueError: A setting is unknown or does not fit, or `out` is the film itself.
            OSError: A file cannot be read or written.
        """
        with ExitStack() as files:
            name, film = _opened(source, files)
            output = files.enter_context(Output(out))
            if film is not None and output.replaces(film.stat):
                raise ValueError(f"{out} is the film itself: name another file")
            saved = None if latents is None else files.enter_context(LatentsFile(latents))
            settings = wire.settings(
                wire.selector(model, version),
                layout=layout,
                size=size,
                sound=sound,
                quality=quality,
                latents=saved is not None,
                film=name,
                film_bytes=film.size if film is not None else None,
                store=store,
                title=title,
                film_id=film_id,
            )

            facts: FilmFacts | None = None
            events = self._reconstruction(film, settings, timeout)
            try:
                async with aclosing(events):
                    async for event in events:
                        if isinstance(event, bytes):
                            await blocking(output.write, event)
                        elif isinstance(event, Progress):
                            if progress is not None:
                                progress(event)
                        elif isinstance(event, LatentBatch):
                            if saved is not None:
                                await blocking(saved.write, event)
                        elif isinstance(event, FilmFacts):
                            facts = event
                        else:
                            result = event
            except DataLossError as error:
                error.partial = output.keep()
                if saved is not None and facts is not None:
                    saved.keep(facts.model, facts)
                raise
            output.commit()
            if saved is not None:
                saved.commit(result.model, result.film)
            return result

    async def reconstruct_stream(
        self,
        source: FilmSource | Film,
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        layout: Layout = "reconstruction",
        size: Size = "model",
        sound: bool = True,
        quality: Quality = "standard",
        latents: bool = False,
        store: bool = False,
        title: str = "",
        film_id: str = "",
        timeout: float | None = None,
    ) -> AsyncGenerator[ReconstructionEvent]:
        """Reconstructs a film and yields what comes as it comes, for those who pass it on.

        First the film's facts; then progress, latents where asked for, and `bytes`: the next piece
        of the fragmented MP4, playable as it grows; the `Reconstruction` last. A slow reader slows
        the service's work. The arguments and errors are those of `reconstruct`. Leaving the loop
        early ends the call once this iterator is closed.
        """
        with ExitStack() as files:
            name, film = _opened(source, files)
            settings = wire.settings(
                wire.selector(model, version),
                layout=layout,
                size=size,
                sound=sound,
                quality=quality,
                latents=latents,
                film=name,
                film_bytes=film.size if film is not None else None,
                store=store,
                title=title,
                film_id=film_id,
            )
            events = self._reconstruction(film, settings, timeout)
            async with aclosing(events):
                async for event in events:
                    yield event

    async def _reconstruction(
        self, film: Source | None, settings: pb.ReconstructVideoSettings, timeout: float | None
    ) -> AsyncGenerator[ReconstructionEvent]:
        async def requests() -> AsyncIterator[pb.ReconstructVideoRequest]:
            yield pb.ReconstructVideoRequest(settings=settings)
            while film is not None and (chunk := await blocking(film.read, _CHUNK_BYTES)):
                yield pb.ReconstructVideoRequest(chunk=chunk)

        meter = Meter(film)
        facts: FilmFacts | None = None
        summary: pb.ReconstructVideoSummary | None = None
        responses = self._transport.stream(self._autoencoder.ReconstructVideo, requests(), timeout)
        async with aclosing(responses):
            async for response in responses:
                kind = response.WhichOneof("payload")
                if kind == "chunk":
                    yield response.chunk
                elif kind == "progress":
                    yield meter.progress(response.progress)
                elif kind == "latents":
                    yield wire.latent_batch(response.latents)
                elif kind == "film":
                    facts = wire.film_facts(response.film)
                    meter.start(facts)
                    yield facts
                elif kind == "summary":
                    summary = response.summary
        # Not before the call's own end: one that is left earlier counts as cancelled there.
        if summary is None or facts is None:
            raise InternalError(
                "the service ended the reconstruction without its summary",
                code=grpc.StatusCode.INTERNAL,
            )
        yield meter.finish(summary)
        yield wire.reconstruction(summary, facts)


def _opened(source: FilmSource | Film, files: ExitStack) -> tuple[str | None, Source | None]:
    """Returns the name of a film of the library, or the caller's own film, open."""
    name = library_film(source)
    if name is not None or isinstance(source, Film):
        return name, None
    return None, files.enter_context(closing(Source(source)))
