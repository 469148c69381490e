# Made of refilm/aio/_frames.py by `make proto`: edit that.
"""Single frames and streams of frames, and the models."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from refilm import _wire as wire
from refilm._calls import Calls
from refilm._names import model_name
from refilm._platform import Items, iterate
from refilm._values import Encoding, ImageFormat, Model, ModelIdentity, Picture
from refilm.v1 import autoencoder_pb2 as pb

if TYPE_CHECKING:
    from refilm._wire import FrameSource, LatentSource


class FrameCalls(Calls):
    """The part of the client that encodes and decodes."""

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
        response = self._transport.unary(self._autoencoder.Encode, request, timeout)
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
        response = self._transport.unary(self._autoencoder.Decode, request, timeout)
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
        """Encodes frames as they arrive, several at once; yields their latents in order.

        The arguments and errors are those of `encode`; the model is chosen once. The encodings of
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

        responses = self._transport.stream(self._autoencoder.EncodeStream, requests(), timeout)
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
        """Decodes latents as they arrive, several at once; yields their pictures in order.

        The arguments and errors are those of `decode`; the rest is as for `encode_stream`.
        """
        settings = pb.DecodeStreamSettings(
            model=wire.selector(model, version), format=wire.image_format(format)
        )

        def requests() -> Iterator[pb.DecodeStreamRequest]:
            yield pb.DecodeStreamRequest(settings=settings)
            for latent in iterate(latents):
                yield pb.DecodeStreamRequest(latent=wire.latent_to_wire(latent))

        responses = self._transport.stream(self._autoencoder.DecodeStream, requests(), timeout)
        with closing(responses):
            for response in responses:
                yield wire.picture(response, format)

    def models(self, *, timeout: float | None = None) -> list[Model]:
        """Lists the models that can answer now, by name.

        Raises:
            RefilmError: The call failed.
        """
        models: list[Model] = []
        token = ""
        while True:
            request = pb.ListModelsRequest(page_token=token)
            page = self._transport.unary(self._autoencoder.ListModels, request, timeout)
            models.extend(wire.model(message) for message in page.models)
            token = page.next_page_token
            if not token:
                return models

    def model(self, name: str, *, timeout: float | None = None) -> Model:
        """Gets one model with its versions and their cards.

        Raises:
            NotFoundError: The service has no such model.
            RefilmError: The call failed for another reason.
        """
        request = pb.GetModelRequest(name=model_name(name))
        response = self._transport.unary(self._autoencoder.GetModel, request, timeout)
        return wire.model(response.model)
