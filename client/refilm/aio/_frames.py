"""Single frames and streams of frames, and the models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from refilm import _wire as wire
from refilm._names import model_name
from refilm._values import Encoding, ImageFormat, Model, ModelIdentity, Picture
from refilm.aio._calls import Calls
from refilm.aio._platform import Items, iterate
from refilm.v1 import autoencoder_pb2 as pb

if TYPE_CHECKING:
    from refilm._wire import FrameSource, LatentSource


class FrameCalls(Calls):
    """The part of the client that encodes and decodes."""

    async def encode(
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
            model: A model's name, empty for the service's default; or the identity of the only
                version that may answer.
            version: The model's version; 0 for the latest.
            embedding: Whether to return the embedding as well.
            timeout: Seconds; None for the client's.

        Raises:
            InvalidRequestError: The service cannot read the picture.
            NotFoundError: The service has no such model or version.
            PreconditionError: The identity's digest is not the version's.
            RefilmError: The call failed for another reason.
            TypeError: The frame is of another type, or not uint8.
            ValueError: The frame has another shape, or is too large for a message (32 MiB).
            OSError: The file cannot be read.
        """
        request = pb.EncodeRequest(
            frame=wire.frame_to_wire(frame),
            model=wire.selector(model, version),
            include_embedding=embedding,
        )
        response = await self._transport.unary(self._autoencoder.Encode, request, timeout)
        return wire.encoding(response)

    async def decode(
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
            latent: An `Encoding`, or 200 finite numbers.
            model: As for `encode`; if omitted, the version that made the encoding, or the
                service's default.
            version: As for `encode`.
            format: "raw" pixels, or a "png", "jpeg" or "webp" file.
            timeout: Seconds; None for the client's.

        Raises:
            InvalidRequestError: The latent has another length, or is not finite.
            PreconditionError: The encoding was made by another model.
            RefilmError: As for `encode`.
            TypeError: The latent is not a sequence of numbers.
            ValueError: The format is unknown.
        """
        request = pb.DecodeRequest(
            latent=wire.latent_to_wire(latent),
            model=wire.selector(model, version),
            format=wire.image_format(format),
        )
        response = await self._transport.unary(self._autoencoder.Decode, request, timeout)
        return wire.picture(response, format)

    async def encode_stream(
        self,
        frames: Items[FrameSource],
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        embedding: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[Encoding]:
        """Encodes frames as they arrive, several at once; yields their latents in order.

        The arguments and errors are those of `encode`; the model is chosen once. The encodings of
        all frames before a faulty one are yielded, then the error is raised. What `frames` raises
        is raised here. Leaving the loop early ends the call once this iterator is closed.
        """
        settings = pb.EncodeStreamSettings(
            model=wire.selector(model, version), include_embedding=embedding
        )

        async def requests() -> AsyncIterator[pb.EncodeStreamRequest]:
            yield pb.EncodeStreamRequest(settings=settings)
            async for frame in iterate(frames):
                yield pb.EncodeStreamRequest(frame=wire.frame_to_wire(frame))

        responses = self._transport.stream(self._autoencoder.EncodeStream, requests(), timeout)
        async with aclosing(responses):
            async for response in responses:
                yield wire.encoding(response)

    async def decode_stream(
        self,
        latents: Items[LatentSource],
        *,
        model: str | ModelIdentity = "",
        version: int = 0,
        format: ImageFormat = "raw",
        timeout: float | None = None,
    ) -> AsyncGenerator[Picture]:
        """Decodes latents as they arrive, several at once; yields their pictures in order.

        The arguments and errors are those of `decode`; the rest is as for `encode_stream`.
        """
        settings = pb.DecodeStreamSettings(
            model=wire.selector(model, version), format=wire.image_format(format)
        )

        async def requests() -> AsyncIterator[pb.DecodeStreamRequest]:
            yield pb.DecodeStreamRequest(settings=settings)
            async for latent in iterate(latents):
                yield pb.DecodeStreamRequest(latent=wire.latent_to_wire(latent))

        responses = self._transport.stream(self._autoencoder.DecodeStream, requests(), timeout)
        async with aclosing(responses):
            async for response in responses:
                yield wire.picture(response, format)

    async def models(self, *, timeout: float | None = None) -> list[Model]:
        """Lists the models that can answer now, by name.

        Raises:
            RefilmError: The call failed.
        """
        models: list[Model] = []
        token = ""
        while True:
            request = pb.ListModelsRequest(page_token=token)
            page = await self._transport.unary(self._autoencoder.ListModels, request, timeout)
            models.extend(wire.model(message) for message in page.models)
            token = page.next_page_token
            if not token:
                return models

    async def model(self, name: str, *, timeout: float | None = None) -> Model:
        """Gets one model with its versions and their cards.

        Raises:
            NotFoundError: The service has no such model.
            RefilmError: The call failed for another reason.
        """
        request = pb.GetModelRequest(name=model_name(name))
        response = await self._transport.unary(self._autoencoder.GetModel, request, timeout)
        return wire.model(response.model)
