"""Frames to latents to frames: batches through Triton, as many at once as it may hold."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service.errors import UnavailableError
from service.inference.admission import Admission
from service.inference.models import DECODER_SUFFIX, ENCODER_SUFFIX, ModelVersion
from service.inference.triton import service_error

log = structlog.get_logger(__name__)

MAX_BATCH = 64
"""The largest batch that models are published for."""
LATENT_SIZE = 200


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder made of N frames."""

    latents: NDArray[np.float32]
    """[N, 200]"""
    embeddings: NDArray[np.float32]
    """[N, 200], each of unit length."""
    queue_seconds: float
    """Waiting in the service for a place in front of Triton."""
    compute_seconds: float
    """In Triton: its batcher's queue, the transfer and the model."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decoder made of N latents."""

    frames: NDArray[np.uint8]
    """[N, 144, 256, 3] RGB."""
    queue_seconds: float
    compute_seconds: float


class Inference:
    """Runs model versions in Triton. Cancelling the awaiting task cancels the Triton request."""

    def __init__(
        self,
        triton: InferenceServerClient,
        admission: Admission,
        *,
        on_unavailable: Callable[[], None] = lambda: None,
    ) -> None:
        self._triton = triton
        self._admission = admission
        self._on_unavailable = on_unavailable

    async def encode(
        self,
        model: ModelVersion,
        frames: NDArray[np.uint8],
        *,
        timeout: float | None = None,
        patient: bool = True,
    ) -> Encoded:
        """Encode `frames` [N, 144, 256, 3], N from 1 to 64.

        `timeout`: seconds until the caller's deadline. `patient`: wait for a place as long as it
        takes (streams and films, which slow their callers down) instead of refusing when it takes
        too long (single calls). Raises OverloadedError, UnavailableError or ServerSideError.
        """
        outputs, queued, computed = await self._run(
            model.name + ENCODER_SUFFIX,
            model.version,
            frames,
            "UINT8",
            ("OUTPUT__0", "OUTPUT__1"),
            timeout,
            patient,
        )
        return Encoded(outputs[0], outputs[1], queued, computed)

    async def decode(
        self,
        model: ModelVersion,
        latents: NDArray[np.float32],
        *,
        timeout: float | None = None,
        patient: bool = True,
    ) -> Decoded:
        """Decode `latents` [N, 200], N from 1 to 64; otherwise as `encode`."""
        outputs, queued, computed = await self._run(
            model.name + DECODER_SUFFIX,
            model.version,
            latents,
            "FP32",
            ("OUTPUT__0",),
            timeout,
            patient,
        )
        return Decoded(outputs[0], queued, computed)

    async def _run(
        self,
        model: str,
        version: int,
        batch: NDArray[np.generic],
        datatype: str,
        outputs: tuple[str, ...],
        timeout: float | None,
        patient: bool,
    ) -> tuple[list[NDArray[np.generic]], float, float]:
        if not 1 <= len(batch) <= MAX_BATCH:
            raise ValueError(f"a batch holds 1 to {MAX_BATCH} items, not {len(batch)}")
        tensor = InferInput("INPUT__0", list(batch.shape), datatype)
        started = time.monotonic()
        async with self._admission.places(len(batch), patient=patient):
            admitted = time.monotonic()
            tensor.set_data_from_numpy(batch)
            remaining = None if timeout is None else max(0.001, timeout - (admitted - started))
            try:
                result: InferResult = await self._triton.infer(
                    model,
                    [tensor],
                    model_version=str(version),
                    outputs=[InferRequestedOutput(name) for name in outputs],
                    client_timeout=remaining,
                )
            except InferenceServerException as error:
                log.warning(
                    "inference failed",
                    model=model,
                    version=version,
                    status=error.status(),
                    error=error.message(),
                )
                failure = service_error(error)
                if isinstance(failure, UnavailableError):
                    self._on_unavailable()
                raise failure from None
            arrays = [result.as_numpy(name) for name in outputs]
        return arrays, admitted - started, time.monotonic() - admitted
