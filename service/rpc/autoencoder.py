"""AutoencoderService: frames to latents, latents to frames, films through both."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from typing import TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc
from service.errors import InvalidFieldError, OverloadedError, UnavailableError
from service.inference import Inference, Models, ModelVersion
from service.inference.triton import RETRY_AFTER_SECONDS
from service.rpc import convert
from service.rpc.call import current_call
from service.rpc.pipeline import Pipeline

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")
Context = grpc.aio.ServicerContext[Request, Response]

ReconstructVideo = Callable[
    [AsyncIterator[pb.ReconstructVideoRequest], "Context[pb.ReconstructVideoRequest, pb.ReconstructVideoResponse]"],
    AsyncIterator[pb.ReconstructVideoResponse],
]
"""service.rpc.reconstruct_video: an async generator over one call's responses.

It raises `service.errors` (the interceptor makes statuses of them) and fills in
`current_call()`: model, frames.
"""
