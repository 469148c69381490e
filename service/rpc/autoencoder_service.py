"""AutoencoderService: frames to latents, latents to frames, films through both."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc

from service.errors import InvalidFieldError, OverloadedError
from service.inference import Inference, Models, ModelVersion
from service.inference.batching import Pipeline
from service.rpc import messages
from service.rpc.call import current_call
from service.rpc.requests import opened

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200

Result = TypeVar("Result")
Request = TypeVar("Request")
Response = TypeVar("Response")
Context: TypeAlias = "grpc.aio.ServicerContext[Request, Response]"

ReconstructVideo: TypeAlias = Callable[
    [
        AsyncIterator[pb.ReconstructVideoRequest],
        "Context[pb.ReconstructVideoRequest, pb.ReconstructVideoResponse]",
    ],
    AsyncIterator[pb.ReconstructVideoResponse],
]
"""service.rpc.reconstruct_video: an async generator over one call's responses.

It raises `service.errors` (the interceptor makes statuses of them) and fills in
`current_call()`: model, frames.
"""


class AutoencoderService(pb_grpc.AutoencoderServiceServicer):
    """The servicer; it raises `service.errors`, of which the interceptor makes statuses."""

    def __init__(
        self,
        models: Models,
        inference: Inference,
        reconstruct_video: ReconstructVideo,
        threads: ThreadPoolExecutor,
        *,
        max_calls_waiting: int,
    ) -> None:
        self._models = models
        self._inference = inference
        self._reconstruct_video = reconstruct_video
        self._threads = threads
        self._max_calls_waiting = max_calls_waiting
        self._calls = 0

    async def Encode(
        self,
        request: pb.EncodeRequest,
        context: "grpc.aio.ServicerContext[pb.EncodeRequest, pb.EncodeResponse]",
    ) -> pb.EncodeResponse:
        """Encode one frame."""
        with self._single_call():
            model = self._resolve(request.model)
            frame = await self._in_thread(messages.model_frame, request.frame, "frame")
            encoded = await self._inference.encode(
                model, frame[np.newaxis], within=context.time_remaining(), patient=False
            )
        current_call().frames = 1
        return pb.EncodeResponse(
            latent=encoded.latents[0].tolist(),
            embedding=encoded.embeddings[0].tolist() if request.include_embedding else None,
            model=messages.model_identity(model),
            timing=messages.timing(encoded.queue_seconds, encoded.compute_seconds),
        )

    async def Decode(
        self,
        request: pb.DecodeRequest,
        context: "grpc.aio.ServicerContext[pb.DecodeRequest, pb.DecodeResponse]",
    ) -> pb.DecodeResponse:
        """Decode one latent."""
        with self._single_call():
            model = self._resolve(request.model)
            image_format = messages.image_format(request.format, "format")
            latent = messages.latent(request.latent, "latent")
            decoded = await self._inference.decode(
                model, latent[np.newaxis], within=context.time_remaining(), patient=False
            )
            (frame,) = await self._frame_messages(decoded.frames, image_format)
        current_call().frames = 1
        return pb.DecodeResponse(
            frame=frame,
            model=messages.model_identity(model),
            timing=messages.timing(decoded.queue_seconds, decoded.compute_seconds),
        )

    async def EncodeStream(
        self,
        request_iterator: AsyncIterator[pb.EncodeStreamRequest],
        context: "grpc.aio.ServicerContext[pb.EncodeStreamRequest, pb.EncodeStreamResponse]",
    ) -> AsyncIterator[pb.EncodeStreamResponse]:
        """Encode frames as they come, in order."""
        first, requests = await opened(request_iterator, "frame")
        settings = first.settings
        model = self._resolve(settings.model, "settings.model")

        async def prepare(index: int, request: pb.EncodeStreamRequest) -> NDArray[np.uint8]:
            return await self._in_thread(messages.model_frame, request.frame, f"frame[{index}]")

        async def answer(frames: list[NDArray[np.uint8]]) -> list[pb.EncodeStreamResponse]:
            encoded = await self._inference.encode(
                model, np.stack(frames), within=context.time_remaining()
            )
            timing = messages.timing(encoded.queue_seconds, encoded.compute_seconds)
            embeddings = encoded.embeddings if settings.include_embedding else None
            return [
                pb.EncodeStreamResponse(
                    latent=latent.tolist(),
                    embedding=None if embeddings is None else embeddings[place].tolist(),
                    model=identity,
                    timing=timing,
                )
                for place, latent in enumerate(encoded.latents)
            ]

        identity = messages.model_identity(model)
        call = current_call()
        pipeline = Pipeline(prepare, answer)
        async for response in pipeline.answers(requests):
            response.index = call.frames
            call.frames += 1
            yield response

    async def DecodeStream(
        self,
        request_iterator: AsyncIterator[pb.DecodeStreamRequest],
        context: "grpc.aio.ServicerContext[pb.DecodeStreamRequest, pb.DecodeStreamResponse]",
    ) -> AsyncIterator[pb.DecodeStreamResponse]:
        """Decode latents as they come, in order."""
        first, requests = await opened(request_iterator, "latent")
        settings = first.settings
        model = self._resolve(settings.model, "settings.model")
        image_format = messages.image_format(settings.format, "settings.format")

        async def prepare(index: int, request: pb.DecodeStreamRequest) -> NDArray[np.float32]:
            return messages.latent(request.latent.values, f"latent[{index}].values")

        async def answer(latents: list[NDArray[np.float32]]) -> list[pb.DecodeStreamResponse]:
            decoded = await self._inference.decode(
                model, np.stack(latents), within=context.time_remaining()
            )
            timing = messages.timing(decoded.queue_seconds, decoded.compute_seconds)
            frames = await self._frame_messages(decoded.frames, image_format)
            return [
                pb.DecodeStreamResponse(frame=frame, model=identity, timing=timing)
                for frame in frames
            ]

        identity = messages.model_identity(model)
        call = current_call()
        pipeline = Pipeline(prepare, answer)
        async for response in pipeline.answers(requests):
            response.index = call.frames
            call.frames += 1
            yield response

    async def ReconstructVideo(
        self,
        request_iterator: AsyncIterator[pb.ReconstructVideoRequest],
        context: "Context[pb.ReconstructVideoRequest, pb.ReconstructVideoResponse]",
    ) -> AsyncIterator[pb.ReconstructVideoResponse]:
        """Reconstruct a film."""
        async for response in self._reconstruct_video(request_iterator, context):
            yield response

    async def ListModels(
        self,
        request: pb.ListModelsRequest,
        context: "grpc.aio.ServicerContext[pb.ListModelsRequest, pb.ListModelsResponse]",
    ) -> pb.ListModelsResponse:
        """List the models that can answer now, by name."""
        if request.page_size < 0:
            raise InvalidFieldError("page_size", f"is {request.page_size}; must not be negative")
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        after = _after(request.page_token)
        models = [model for model in self._models.list() if model.name > after]
        page = models[:size]
        return pb.ListModelsResponse(
            models=[messages.model_message(model) for model in page],
            next_page_token=_token(page[-1].name) if len(models) > size else "",
        )

    async def GetModel(
        self,
        request: pb.GetModelRequest,
        context: "grpc.aio.ServicerContext[pb.GetModelRequest, pb.GetModelResponse]",
    ) -> pb.GetModelResponse:
        """Get one model."""
        if not request.name:
            raise InvalidFieldError("name", "is empty; name a model", reason="MODEL_REQUIRED")
        return pb.GetModelResponse(model=messages.model_message(self._models.get(request.name)))

    def _resolve(self, selector: pb.ModelSelector, field: str = "model") -> ModelVersion:
        model = messages.resolve(self._models, selector, field)
        current_call().model = model
        return model

    async def _frame_messages(
        self, frames: NDArray[np.uint8], image_format: messages.ImageFormat | None
    ) -> list[pb.Frame]:
        if image_format is None:
            return [messages.frame_message(frame, None) for frame in frames]
        return await asyncio.gather(
            *(self._in_thread(messages.frame_message, frame, image_format) for frame in frames)
        )

    @contextmanager
    def _single_call(self) -> Iterator[None]:
        """Bound the single calls that hold their messages in memory while they wait."""
        if self._calls >= self._max_calls_waiting:
            raise OverloadedError(
                f"{self._max_calls_waiting} single calls are in work or wait already; try again, "
                "or use one stream",
                retry_after=1.0,
            )
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(f"after:{name}".encode()).decode()


def _after(token: str) -> str:
    if not token:
        return ""
    try:
        kind, _, name = (
            base64.b64decode(token, altchars=b"-_", validate=True).decode().partition(":")
        )
    except (binascii.Error, UnicodeError):
        kind = name = ""
    if kind != "after" or not name:
        raise InvalidFieldError(
            "page_token",
            "is none of ours; pass the next_page_token of the page before, unchanged",
            reason="INVALID_PAGE_TOKEN",
        )
    return name
