"""What lies between two latents, and how it looks."""

import asyncio
from collections.abc import AsyncGenerator
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from service.inference import Inference, ModelVersion

DECODED_AT_ONCE = 32
"""Pictures in a batch; one batch is decoded while the one before is sent."""

_PARALLEL = 1e-9
"""Sine of the angle from which on two directions count as one, or as opposite."""


class Mode(Enum):
    """How to go from one latent to the other."""

    LINEAR = "linear"
    SPHERICAL = "spherical"


def interpolate(
    first: NDArray[np.float32], last: NDArray[np.float32], steps: int, mode: Mode
) -> NDArray[np.float32]:
    """Return `steps` latents [steps, 200] from `first` to `last`, [200] each, both included as is.

    Linear: evenly along the straight line. Spherical: directions evenly along the great circle,
    lengths evenly from one to the other. Where there is no one great circle: between latents of
    the same direction only the length changes; a latent of length 0 takes the other's direction;
    of the many half circles between opposite directions one is chosen, always the same.
    """
    if steps < 2:
        raise ValueError(f"both ends are included: {steps} steps are too few")
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
    # Of the end's direction, what is at right angles to the start's: its length is the sine.
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
    """Return a unit vector at right angles to one, always the same."""
    axis = np.zeros_like(direction)
    axis[np.argmin(np.abs(direction))] = 1.0
    across: NDArray[np.float64] = axis - (axis @ direction) * direction
    return across / float(np.linalg.norm(across))


async def decoded(
    inference: Inference, model: ModelVersion, latents: NDArray[np.float32]
) -> AsyncGenerator[NDArray[np.uint8], None]:
    """Yield the pictures of latents [N, 200] in order, batches [n, 144, 256, 3].

    The next batch is in work while one is looked at, and no more than that. Close it (`aclosing`)
    where it is not exhausted. Raises as `Inference.decode`.
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
