# Made of refilm/aio/_reconstruct.py by `make proto`: edit that.
# ruff: noqa: UP028
"""Reconstruction of films that the caller sends."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing

from refilm import _wire as wire
from refilm._calls import Calls
from refilm._film_values import Film
from refilm._latents import LatentsFile
from refilm._output import FilmSink, Output
from refilm._platform import blocking
from refilm._progress import Meter
from refilm._reconstruction import ReconstructionEvent, reconstruction_events, written
from refilm._source import FilmSource, Source
from refilm._values import Layout, ModelIdentity, Progress, Quality, Reconstruction, Size
from refilm.v1 import autoencoder_pb2 as pb

_CHUNK_BYTES = 256 * 1024


class ReconstructionCalls(Calls):
    """The part of the client that reconstructs films while the caller waits."""

    def reconstruct(
        self,
        source: FilmSource,
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
        """Reconstructs a film that the caller sends, into a file. Neither is held in memory whole.

        A path `out` is written atomically: the film appears under its name, replacing any earlier
        file, when it is complete. For films of the library use `watch`.

        Args:
            source: The film's path, or a file object to read it from.
            out: The reconstruction's path (an .mp4), or a file object to write it to.
            model: As for `encode`.
            version: As for `encode`.
            layout: The "reconstruction", or the source on its left ("side_by_side").
            size: The "model"'s own, 256 x 144, or the "source"'s, at most 1920 x 1080.
            sound: Whether the film's sound is kept.
            quality: The quality of the video encoding: "draft", "standard" or "high".
            latents: Where to save every frame's latent: a .npy ([N, 200] float32), or a .npz that
                also holds their presentation times and the model.
            store: Whether the library keeps the film, with its latents and this rendition;
                `Reconstruction.film_name` then names it.
            title: If it is stored: its title.
            film_id: If it is stored: its id, as for `upload_film`.
            progress: Called about twice a second with the progress.
            timeout: Seconds; None for the client's `stream_timeout`.

        Raises:
            DataLossError: The film is truncated or damaged. What could be reconstructed is kept
                beside `out` as "<stem>.partial<suffix>", which `partial` names.
            InvalidRequestError: It is not a film, or has no moving picture.
            NotFoundError: The service has no such model.
            AlreadyExistsError: Another film has or had the id.
            OverloadedError: The service is overloaded, or the film is larger than it accepts.
            RefilmError: As for `encode`, or the call failed for another reason.
            ValueError: A setting is unknown or does not fit, or `out` is the film itself.
            OSError: A file cannot be read or written.
        """
        with ExitStack() as files:
            film = files.enter_context(closing(Source(_own(source))))
            output = files.enter_context(Output(out))
            if output.replaces(film.stat):
                raise ValueError(f"{out} is the film itself: name another file")
            saved = None if latents is None else files.enter_context(LatentsFile(latents))
            settings = pb.ReconstructVideoSettings(
                model=wire.selector(model, version),
                rendition=wire.rendition_settings(
                    layout=layout, size=size, sound=sound, quality=quality
                ),
                include_latents=saved is not None,
                film_size_bytes=film.size or 0,
                store=wire.store_settings(store, title, film_id),
            )
            return written(self._events(film, settings, timeout), output, saved, progress)

    def reconstruct_stream(
        self,
        source: FilmSource,
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
    ) -> Generator[ReconstructionEvent]:
        """Reconstructs a film and yields the results as they arrive, for callers that forward them.

        First the film's facts; then progress, latents where asked for, and `bytes`: the next piece
        of the fragmented MP4, playable as it grows; the `Reconstruction` last. A slow reader slows
        the service's work. The arguments and errors are those of `reconstruct`. Leaving the loop
        early ends the call once this iterator is closed.
        """
        with closing(Source(_own(source))) as film:
            settings = pb.ReconstructVideoSettings(
                model=wire.selector(model, version),
                rendition=wire.rendition_settings(
                    layout=layout, size=size, sound=sound, quality=quality
                ),
                include_latents=latents,
                film_size_bytes=film.size or 0,
                store=wire.store_settings(store, title, film_id),
            )
            events = self._events(film, settings, timeout)
            with closing(events):
                for event in events:
                    yield event

    def _events(
        self, film: Source, settings: pb.ReconstructVideoSettings, timeout: float | None
    ) -> Generator[ReconstructionEvent]:
        def requests() -> Iterator[pb.ReconstructVideoRequest]:
            yield pb.ReconstructVideoRequest(settings=settings)
            while chunk := blocking(film.read, _CHUNK_BYTES):
                yield pb.ReconstructVideoRequest(chunk=chunk)

        responses = self._transport.stream(self._autoencoder.ReconstructVideo, requests(), timeout)
        return reconstruction_events(responses, Meter(film))


def _own(source: FilmSource) -> FilmSource:
    if isinstance(source, Film):
        raise TypeError(f"{source.name} is in the library: use watch")
    return source
