"""Films made of shots, as the tiny models see them: consistent pictures, latents and embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from film.quality import frame_detail
from tests.support.models import TinyEncoder
from tests.support.stored_latents import Rows

FRAME_RATE = 12
BLACK = -1


@dataclass(frozen=True)
class Shot:
    """A picture that drifts a little; the same number and time give the same picture."""

    number: int
    """What it shows; BLACK: nothing."""
    seconds: float
    start: float = 0.0
    """Where in the shot it begins, in seconds."""
    drift: float = 0.3
    """How far it moves each second, in widths of what it shows; 0: it stands still."""


def pictures(shots: Sequence[Shot], rate: int = FRAME_RATE) -> NDArray[np.uint8]:
    """Return the frames of shots one after the other, [N, 144, 256, 3]."""
    frames = []
    for shot in shots:
        rng = np.random.default_rng(shot.number + 1000)
        first, way = rng.normal(size=(2, 9, 16, 3))
        for place in range(round(shot.seconds * rate)):
            time = shot.start + place / rate
            averages = 128.0 + 30.0 * (first + shot.drift * time * way)
            if shot.number == BLACK:
                averages = np.zeros((9, 16, 3))
            small = np.clip(averages, 0, 255).astype(np.uint8)
            frames.append(small.repeat(16, axis=0).repeat(16, axis=1))
    return np.stack(frames)


def rows_of(frames: NDArray[np.uint8], seed: int = 2, rate: int = FRAME_RATE) -> Rows:
    """Return what the tiny model of a seed makes of frames, one every 1000 ticks."""
    with torch.inference_mode():
        latents, embeddings = TinyEncoder(seed)(torch.from_numpy(frames))
    return Rows(
        latents.numpy(),
        embeddings.numpy().astype(np.float16).astype(np.float32),
        np.arange(len(frames), dtype=np.int64) * 1000,
        frame_detail(frames),
        Fraction(1, 1000 * rate),
        len(frames) * 1000,
    )
