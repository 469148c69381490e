"""Inference: encodes and decodes batches in Triton, within the admission limit."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import Counter
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service import metrics
from service.errors import UnavailableError
from service.inference.admission import Admission
from service.inference.connection import ModelProcessLostError, service_error
from service.inference.models import DECODER_SUFFIX, ENCODER_SUFFIX, ModelVersion

log = structlog.get_logger(__name__)

MAX_BATCH = 64
"""The largest batch size that published models support."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoder's output for N frames."""

    latents: NDArray[np.float32]
    """[N, 200]"""
    embeddings: NDArray[np.float32]
    """[N, 200], each of unit length."""
    queue_seconds: float
    """Time spent waiting for admission."""
    compute_seconds: float
    """Time in Triton: its batcher's queue, the transfer and the model."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoder's output for N latents."""

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
        on_process_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._triton = triton
        self._admission = admission
        self._on_unavailable = on_unavailable
        self._on_process_lost = on_process_lost

    async def encode(
        self,
        model: ModelVersion,
        frames: NDArray[np.uint8],
        *,
        within: float | None = None,
        patient: bool = True,
    ) -> Encoded:
        """Encode `frames` [N, 144, 256, 3], N from 1 to 64.

        `within`: seconds until the caller's deadline. `patient`: wait for admission without limit
        (streams and films, which apply backpressure) instead of failing after the maximum wait
        (single calls). Raises OverloadedError, UnavailableError, LateError or ServerSideError.
        """
        result, queued, computed = await self._run(
            model,
            ENCODER_SUFFIX,
            frames,
            "UINT8",
            ("OUTPUT__0", "OUTPUT__1"),
            within,
            patient,
        )
        _count(metrics.FRAMES_ENCODED, "encode", model, len(frames), queued, computed)
        return Encoded(result.as_numpy("OUTPUT__0"), result.as_numpy("OUTPUT__1"), queued, computed)

    async def decode(
        self,
        model: ModelVersion,
        latents: NDArray[np.float32],
        *,
        within: float | None = None,
        patient: bool = True,
    ) -> Decoded:
        """Decode `latents` [N, 200], N from 1 to 64; otherwise as `encode`."""
        result, queued, computed = await self._run(
            model,
            DECODER_SUFFIX,
            latents,
            "FP32",
            ("OUTPUT__0",),
            within,
            patient,
        )
        _count(metrics.FRAMES_DECODED, "decode", model, len(latents), queued, computed)
        return Decoded(result.as_numpy("OUTPUT__0"), queued, computed)

    async def embed(
        self,
        model: ModelVersion,
        latents: NDArray[np.float32],
        *,
        within: float | None = None,
        patient: bool = True,
    ) -> NDArray[np.float32]:
        """Return the unit-length embeddings of `latents` [N, 200]; otherwise as `encode`.

        They equal the encoder's embeddings of the same latents.
        """
        result, _, _ = await self._run(
            model, DECODER_SUFFIX, latents, "FP32", ("OUTPUT__1",), within, patient
        )
        embeddings: NDArray[np.float32] = result.as_numpy("OUTPUT__1")
        return embeddings

    async def _run(
        self,
        model: ModelVersion,
        suffix: str,
        batch: NDArray[np.generic],
        datatype: str,
        outputs: tuple[str, ...],
        within: float | None,
        patient: bool,
    ) -> tuple[InferResult, float, float]:
        if not 1 <= len(batch) <= MAX_BATCH:
            raise ValueError(f"a batch holds 1 to {MAX_BATCH} items, not {len(batch)}")
        tensor = InferInput("INPUT__0", list(batch.shape), datatype)
        started = time.monotonic()
        async with self._admission.places(len(batch), patient=patient):
            admitted = time.monotonic()
            tensor.set_data_from_numpy(batch)
            remaining = None if within is None else max(0.001, within - (admitted - started))
            try:
                result: InferResult = await self._triton.infer(
                    model.name + suffix,
                    [tensor],
                    model_version=str(model.version),
                    outputs=[InferRequestedOutput(name) for name in outputs],
                    client_timeout=remaining,
                )
            except InferenceServerException as error:
                log.warning(
                    "inference failed",
                    model=model.name + suffix,
                    version=model.version,
                    status=error.status(),
                    error=error.message(),
                )
                failure = service_error(error)
                if isinstance(failure, ModelProcessLostError):
                    self._on_process_lost()
                if isinstance(failure, UnavailableError):
                    self._on_unavailable()
                raise failure from None
        return result, admitted - started, time.monotonic() - admitted


def _count(
    counter: Counter, half: str, model: ModelVersion, frames: int, queued: float, computed: float
) -> None:
    counter.labels(model.name, str(model.version)).inc(frames)
    metrics.INFERENCE_QUEUE_SECONDS.labels(half).observe(queued)
    metrics.INFERENCE_COMPUTE_SECONDS.labels(half).observe(computed)
    metrics.INFERENCE_BATCH_FRAMES.labels(half).observe(frames)
