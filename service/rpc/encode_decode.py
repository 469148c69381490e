"""Encode, Decode and their streams: frames to latents, latents to frames."""

from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray
from refilm.v1 import autoencoder_pb2 as pb

from service.inference import Inference, Models, ModelVersion
from service.inference.batching import Pipeline
from service.limit import Limit
from service.rpc import messages
from service.rpc.call import Context, current_call
from service.rpc.picture_calls import Pictures
from service.rpc.requests import opened


class FrameCalls:
    """Handlers that convert frames to latents, and latents to frames."""

    def __init__(
        self,
        models: Models,
        inference: Inference,
        pictures: Pictures,
        limit: Limit,
    ) -> None:
        self._models = models
        self._inference = inference
        self._pictures = pictures
        self._limit = limit

    async def Encode(
        self,
        request: pb.EncodeRequest,
        context: "Context[pb.EncodeRequest, pb.EncodeResponse]",
    ) -> pb.EncodeResponse:
        """Encode one frame."""
        with self._limit:
            model = self._resolve(request.model)
            frame = await self._pictures.model_frame(request.frame, "frame")
            encoded = await self._inference.encode(
                model, frame[np.newaxis], within=context.time_remaining(), patient=False
            )
        current_call().frames = 1
        return pb.EncodeResponse(
            latent=messages.latent_message(encoded.latents[0], model.digest),
            embedding=messages.embedding_message(encoded.embeddings[0])
            if request.include_embedding
            else None,
            model=messages.model_identity(model),
            timing=messages.timing(encoded.queue_seconds, encoded.compute_seconds),
        )

    async def Decode(
        self,
        request: pb.DecodeRequest,
        context: "Context[pb.DecodeRequest, pb.DecodeResponse]",
    ) -> pb.DecodeResponse:
        """Decode one latent."""
        with self._limit:
            model = current_call().model = messages.resolve_for(
                self._models, request.latent, request.model, field="model", latent_field="latent"
            )
            image_format = messages.image_format(request.format, "format")
            latent = messages.latent(request.latent, "latent")
            decoded = await self._inference.decode(
                model, latent[np.newaxis], within=context.time_remaining(), patient=False
            )
            (frame,) = await self._pictures.messages(decoded.frames, image_format)
        current_call().frames = 1
        return pb.DecodeResponse(
            frame=frame,
            model=messages.model_identity(model),
            timing=messages.timing(decoded.queue_seconds, decoded.compute_seconds),
        )

    async def EncodeStream(
        self,
        requests: AsyncIterator[pb.EncodeStreamRequest],
        context: "Context[pb.EncodeStreamRequest, pb.EncodeStreamResponse]",
    ) -> AsyncIterator[pb.EncodeStreamResponse]:
        """Encode frames as they arrive, in order."""
        first, items = await opened(requests, "frame")
        settings = first.settings
        model = self._resolve(settings.model, "settings.model")

        async def prepare(index: int, request: pb.EncodeStreamRequest) -> NDArray[np.uint8]:
            return await self._pictures.model_frame(request.frame, f"frame[{index}]")

        async def answer(frames: list[NDArray[np.uint8]]) -> list[pb.EncodeStreamResponse]:
            encoded = await self._inference.encode(
                model, np.stack(frames), within=context.time_remaining()
            )
            timing = messages.timing(encoded.queue_seconds, encoded.compute_seconds)
            embeddings = encoded.embeddings if settings.include_embedding else None
            return [
                pb.EncodeStreamResponse(
                    latent=messages.latent_message(latent, model.digest),
                    embedding=None
                    if embeddings is None
                    else messages.embedding_message(embeddings[place]),
                    model=identity,
                    timing=timing,
                )
                for place, latent in enumerate(encoded.latents)
            ]

        identity = messages.model_identity(model)
        call = current_call()
        pipeline = Pipeline(prepare, answer)
        async for response in pipeline.answers(items):
            response.index = call.frames
            call.frames += 1
            yield response

    async def DecodeStream(
        self,
        requests: AsyncIterator[pb.DecodeStreamRequest],
        context: "Context[pb.DecodeStreamRequest, pb.DecodeStreamResponse]",
    ) -> AsyncIterator[pb.DecodeStreamResponse]:
        """Decode latents as they arrive, in order."""
        first, items = await opened(requests, "latent")
        settings = first.settings
        model = self._resolve(settings.model, "settings.model")
        image_format = messages.image_format(settings.format, "settings.format")

        async def prepare(index: int, request: pb.DecodeStreamRequest) -> NDArray[np.float32]:
            field = f"latent[{index}]"
            messages.require_model(request.latent, model, field)
            return messages.latent(request.latent, field)

        async def answer(latents: list[NDArray[np.float32]]) -> list[pb.DecodeStreamResponse]:
            decoded = await self._inference.decode(
                model, np.stack(latents), within=context.time_remaining()
            )
            timing = messages.timing(decoded.queue_seconds, decoded.compute_seconds)
            frames = await self._pictures.messages(decoded.frames, image_format)
            return [
                pb.DecodeStreamResponse(frame=frame, model=identity, timing=timing)
                for frame in frames
            ]

        identity = messages.model_identity(model)
        call = current_call()
        pipeline = Pipeline(prepare, answer)
        async for response in pipeline.answers(items):
            response.index = call.frames
            call.frames += 1
            yield response

    def _resolve(self, selector: pb.ModelSelector, field: str = "model") -> ModelVersion:
        model = messages.resolve(self._models, selector, field)
        current_call().model = model
        return model
