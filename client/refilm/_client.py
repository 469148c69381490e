# Made of refilm/aio/_client.py by `make proto`: edit that.
# ruff: noqa: UP028
"""The client."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from types import TracebackType
from typing import TYPE_CHECKING

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from refilm import _wire as wire
from refilm._errors import DataLossError, InternalError
from refilm._latents import LatentsFile
from refilm._output import FilmSink, Output
from refilm._platform import Items, blocking, iterate
from refilm._progress import Meter
from refilm._source import FilmSource, Source
from refilm._transport import Transport
from refilm._values import (
    Encoding,
    FilmFacts,
    ImageFormat,
    LatentBatch,
    Layout,
    Model,
    ModelIdentity,
    Picture,
    Progress,
    Quality,
    Reconstruction,
    Size,
)
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1.autoencoder_pb2_grpc import AutoencoderServiceStub

if TYPE_CHECKING:
    from refilm._wire import FrameSource, LatentSource

ReconstructionEvent = FilmFacts | Progress | LatentBatch | bytes | Reconstruction
"""What `Client.reconstruct_stream` yields."""

_CHUNK_BYTES = 256 * 1024
_HEALTH_WORDS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class Client:
    """Calls a Refilm service; safe to share, and meant to be: it keeps one connection open.

    Use it in a `with` block (`async with` for the asynchronous one), or close it.

    Encode, decode, models and model are tried again when the service is unavailable or overloaded,
    up to five times, at the service's own pace where it tells one. Streams are not: they may be
    half consumed. Every call has a deadline.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = 30.0,
        stream_timeout: float = 12 * 3600.0,
    ) -> None:
        """Sets the connection up; it is made with the first call.

        Args:
            address: "host:port", or any other target that gRPC knows.
            credentials: `grpc.ssl_channel_credentials(...)` for TLS; None for plain text.
            timeout: Seconds that a call which answers once may take, all its attempts together.
            stream_timeout: Seconds that a stream or a reconstruction may take. Each call's own
                `timeout` goes before these; `math.inf` means no deadline.
        """
        self._transport = Transport(address, credentials, timeout, stream_timeout)
        channel = self._transport.channel
        self._stub = AutoencoderServiceStub(channel)
        # These two wrappers are what grpc.health.v1's two messages are on the wire, so health
        # needs no further package.
        self._check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Int32Value.FromString,
        )

    def __repr__(self) -> str:
        return f"Client({self._transport.address!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls that still run are cancelled."""
        self._transport.close()

    def encode(
        self,
        frame: FrameSource,
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        embedding: bool = False,
        timeout: float | None = None,
    ) -> Encoding:
        """Encodes one frame to its latent.

        Args:
            frame: Pixels [H, W, 3] uint8 RGB (a numpy array, or anything else with such a buffer),
                a JPEG, PNG or WebP file's bytes, or its path. Any size.
            model: A model's name, empty for the service's default; or the identity of the one
                version that may answer.
            version: The model's version; 0 for the latest.
            embedding: Whether to return the embedding as well.
            timeout: Seconds; None for the client's.

        Raises:
            InvalidRequestError: The service cannot read the picture.
            NotFoundError: The service has no such model or version.
            PreconditionError: The identity's digest is not the version's.
            RefilmError: Whatever else the call ended with.
            TypeError: The frame is something else, or not uint8.
            ValueError: The frame has another shape, or is too large for a message (32 MiB).
            OSError: The file cannot be read.
        """
        request = pb.EncodeRequest(
            frame=wire.frame_to_wire(frame),
            model=wire.selector(model, version),
            include_embedding=embedding,
        )
        response = self._transport.unary(self._stub.Encode, request, timeout)
        return wire.encoding(response)

    def decode(
        self,
        latent: LatentSource,
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        format: ImageFormat = "raw",
        timeout: float | None = None,
    ) -> Picture:
        """Decodes one latent to a picture.

        Args:
            latent: 200 finite numbers.
            model: As for `encode`. `Encoding.model` names the very version that made a latent.
            version: As for `encode`.
            format: "raw" pixels, or a "png", "jpeg" or "webp" file.
            timeout: Seconds; None for the client's.

        Raises:
            InvalidRequestError: The latent has another length, or is not finite.
            RefilmError: As for `encode`.
            TypeError: The latent is no sequence of numbers.
            ValueError: The format is unknown.
        """
        request = pb.DecodeRequest(
            latent=wire.latent_to_wire(latent),
            model=wire.selector(model, version),
            format=wire.image_format(format),
        )
        response = self._transport.unary(self._stub.Decode, request, timeout)
        return wire.picture(response, format)

    def encode_stream(
        self,
        frames: Items[FrameSource],
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        embedding: bool = False,
        timeout: float | None = None,
    ) -> Generator[Encoding]:
        """Encodes frames as they come, many in flight; yields their latents in their order.

        The arguments and errors are those of `encode`, the model is chosen once. The encodings of
        all frames before a faulty one are yielded, then the error is raised. What `frames` raises
        is raised here. Leaving the loop early ends the call once this iterator is closed.
        """
        settings = pb.EncodeStreamSettings(
            model=wire.selector(model, version), include_embedding=embedding
        )

        def requests() -> Iterator[pb.EncodeStreamRequest]:
            yield pb.EncodeStreamRequest(settings=settings)
            for frame in iterate(frames):
                yield pb.EncodeStreamRequest(frame=wire.frame_to_wire(frame))

        responses = self._transport.stream(self._stub.EncodeStream, requests(), timeout)
        with closing(responses):
            for response in responses:
                yield wire.encoding(response)

    def decode_stream(
        self,
        latents: Items[LatentSource],
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        format: ImageFormat = "raw",
        timeout: float | None = None,
    ) -> Generator[Picture]:
        """Decodes latents as they come, many in flight; yields their pictures in their order.

        The arguments and errors are those of `decode`, the rest is as for `encode_stream`.
        """
        settings = pb.DecodeStreamSettings(
            model=wire.selector(model, version), format=wire.image_format(format)
        )

        def requests() -> Iterator[pb.DecodeStreamRequest]:
            yield pb.DecodeStreamRequest(settings=settings)
            for latent in iterate(latents):
                yield pb.DecodeStreamRequest(latent=pb.Latent(values=wire.latent_to_wire(latent)))

        responses = self._transport.stream(self._stub.DecodeStream, requests(), timeout)
        with closing(responses):
            for response in responses:
                yield wire.picture(response, format)

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
        progress: Callable[[Progress], object] | None = None,
        timeout: float | None = None,
    ) -> Reconstruction:
        """Reconstructs a film into a file. Neither is ever whole in memory.

        A path `out` is written to whole or not at all: the film appears under its name, replacing
        what lay there, when it is complete.

        Args:
            source: The film's path, or a file object to read it from.
            out: The reconstruction's path (an .mp4), or a file object to write it to.
            model: As for `encode`.
            version: As for `encode`.
            layout: The "reconstruction", or the source on its left ("side_by_side").
            size: The "model"'s own, 256 x 144, or the "source"'s, at most 1920 x 1080.
            sound: Whether the film's sound is kept.
            quality: Of the video encoding: "draft", "standard" or "high".
            latents: Where to save every frame's latent: a .npy ([N, 200] float32), or a .npz that
                also holds their presentation times and the model.
            progress: Called about twice a second with how far the work is.
            timeout: Seconds; None for the client's `stream_timeout`.

        Raises:
            DataLossError: The film breaks off or is damaged. What could be made of it is kept
                beside `out` as "<stem>.partial<suffix>", which `partial` names.
            InvalidRequestError: It is no film, or has no moving picture.
            OverloadedError: The service has no room, or the film is larger than it takes.
            RefilmError: As for `encode`, and whatever else the call ended with.
            ValueError: A setting is unknown, or `out` is the film itself.
            OSError: A file cannot be read or written.
        """
        with ExitStack() as files:
            film = files.enter_context(closing(Source(source)))
            output = files.enter_context(Output(out))
            if output.replaces(film.stat):
                raise ValueError(f"{out} is the film itself: name another file")
            saved = None if latents is None else files.enter_context(LatentsFile(latents))
            settings = wire.settings(
                wire.selector(model, version),
                layout=layout,
                size=size,
                sound=sound,
                quality=quality,
                latents=saved is not None,
                film_bytes=film.size,
            )

            facts: FilmFacts | None = None
            events = self._reconstruction(film, settings, timeout)
            try:
                with closing(events):
                    for event in events:
                        if isinstance(event, bytes):
                            blocking(output.write, event)
                        elif isinstance(event, Progress):
                            if progress is not None:
                                progress(event)
                        elif isinstance(event, LatentBatch):
                            if saved is not None:
                                blocking(saved.write, event)
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
        timeout: float | None = None,
    ) -> Generator[ReconstructionEvent]:
        """Reconstructs a film and yields what comes as it comes, for those who pass it on.

        First the film's facts; then progress, latents where asked for, and `bytes`: the next piece
        of the fragmented MP4, playable as it grows; the `Reconstruction` last. A slow reader slows
        the service's work. The arguments and errors are those of `reconstruct`. Leaving the loop
        early ends the call once this iterator is closed.
        """
        with closing(Source(source)) as film:
            settings = wire.settings(
                wire.selector(model, version),
                layout=layout,
                size=size,
                sound=sound,
                quality=quality,
                latents=latents,
                film_bytes=film.size,
            )
            events = self._reconstruction(film, settings, timeout)
            with closing(events):
                for event in events:
                    yield event

    def models(self, *, timeout: float | None = None) -> list[Model]:
        """Lists the models that can answer now, by name.

        Raises:
            RefilmError: Whatever the call ended with.
        """
        models: list[Model] = []
        token = ""
        while True:
            request = pb.ListModelsRequest(page_token=token)
            page = self._transport.unary(self._stub.ListModels, request, timeout)
            models.extend(wire.model(message) for message in page.models)
            token = page.next_page_token
            if not token:
                return models

    def model(self, name: str, *, timeout: float | None = None) -> Model:
        """Gets one model with its versions and their cards.

        Raises:
            NotFoundError: The service has no such model.
            RefilmError: Whatever else the call ended with.
        """
        request = pb.GetModelRequest(name=name)
        response = self._transport.unary(self._stub.GetModel, request, timeout)
        return wire.model(response.model)

    def health(self, service: str = "", *, timeout: float | None = None) -> str:
        """Asks whether the service can answer: "SERVING" or "NOT_SERVING".

        Args:
            service: One service's full name, for example "refilm.v1.AutoencoderService"; empty
                for all together.
            timeout: Seconds; None for the client's.

        Raises:
            NotFoundError: There is no such service.
            RefilmError: Whatever else the call ended with.
        """
        answer = self._transport.unary(self._check, StringValue(value=service), timeout)
        return _HEALTH_WORDS.get(answer.value, "UNKNOWN")

    def _reconstruction(
        self, film: Source, settings: pb.ReconstructVideoSettings, timeout: float | None
    ) -> Generator[ReconstructionEvent]:
        def requests() -> Iterator[pb.ReconstructVideoRequest]:
            yield pb.ReconstructVideoRequest(settings=settings)
            while chunk := blocking(film.read, _CHUNK_BYTES):
                yield pb.ReconstructVideoRequest(chunk=chunk)

        meter = Meter(film)
        facts: FilmFacts | None = None
        summary: pb.ReconstructVideoSummary | None = None
        responses = self._transport.stream(self._stub.ReconstructVideo, requests(), timeout)
        with closing(responses):
            for response in responses:
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
