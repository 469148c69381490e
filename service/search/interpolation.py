"""Interpolation between two latents, and decoding of the result."""

import asyncio
from collections.abc import AsyncGenerator
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from service.inference import Inference, ModelVersion

DECODED_AT_ONCE = 32
"""Pictures in a batch; the next batch is decoded while one is sent."""

_PARALLEL = 1e-9
"""Sine of the angle below which two directions count as equal or opposite."""


class Mode(Enum):
    """How to interpolate."""

    LINEAR = "linear"
    SPHERICAL = "spherical"


def interpolate(
    first: NDArray[np.float32], last: NDArray[np.float32], steps: int, mode: Mode
) -> NDArray[np.float32]:
    """Return `steps` latents [steps, 200] from `first` to `last`, [200] each, both included as is.

    Linear: evenly along the straight line. Spherical: directions evenly along the great circle,
    lengths linearly. If the great circle is not unique: between equal directions only the length
    changes; a latent of length 0 takes the other's direction; between opposite directions a fixed
    half circle is chosen.
    """
    if steps < 2:
        raise ValueError(f"at least 2 steps are needed for both ends, not {steps}")
    start, end = first.astype(np.float64), last.astype(np.float64)
    share = np.linspace(0.0, 1.0, steps)[:, np.newaxis]
    if mode is Mode.SPHERICAL:
        between = _spherical(start, end, share)
    else:
        between = (1.0 - share) * start + share * end
    latents = between.astype(np.float32)
    latents[0], latents[-1] = first, last
    return latents


def _spherical(
    start: NDArray[np.float64], end: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    lengths = float(np.linalg.norm(start)), float(np.linalg.norm(end))
    if not all(lengths):
        return (1.0 - share) * start + share * end
    start_direction, end_direction = start / lengths[0], end / lengths[1]
    # The component of the end's direction orthogonal to the start's: its length is the sine.
    cosine = float(start_direction @ end_direction)
    across = end_direction - cosine * start_direction
    sine = float(np.linalg.norm(across))
    angle = float(np.arctan2(sine, cosine))
    if sine < _PARALLEL:
        across = _any_across(start_direction)
        angle = 0.0 if cosine > 0 else np.pi
    else:
        across /= sine
    directions = np.cos(share * angle) * start_direction + np.sin(share * angle) * across
    return ((1.0 - share) * lengths[0] + share * lengths[1]) * directions


def _any_across(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a fixed unit vector orthogonal to this one."""
    axis = np.zeros_like(direction)
    axis[np.argmin(np.abs(direction))] = 1.0
    across: NDArray[np.float64] = axis - (axis @ direction) * direction
    return across / float(np.linalg.norm(across))


async def decoded(
    inference: Inference, model: ModelVersion, latents: NDArray[np.float32]
) -> AsyncGenerator[NDArray[np.uint8], None]:
    """Yield the pictures of latents [N, 200] in order, batches [n, 144, 256, 3].

    Decodes one batch ahead. Close it (`aclosing`) if it is not exhausted. Raises as
    `Inference.decode`.
    """

    async def decode(start: int) -> NDArray[np.uint8]:
        batch = latents[start : start + DECODED_AT_ONCE]
        return (await inference.decode(model, batch)).frames

    starts = range(0, len(latents), DECODED_AT_ONCE)
    work = asyncio.create_task(decode(starts[0]))
    try:
        for following in starts[1:]:
            frames = await work
            work = asyncio.create_task(decode(following))
            yield frames
        yield await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
