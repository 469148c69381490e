"""Shows a film being learned while `fidelity` fits its memory, basis after basis."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.export import to_frames, to_pictures
from trainer.preview import Preview, Shown
from trainer.recipes.fidelity.memory import Memory
from trainer.sampler import Frames

EVERY_SECONDS = 3.0
"""How often the preview is drawn, or less often where drawing is slow."""


class MemoryPreview:
    """Draws what the bases found so far make of a few frames.

    Args:
        run: the run's directory; what is there of a curve is dropped, for the fit starts over.
        data: where the frames to show come from.
        show_preview: told the preview's PSNR in dB each time.
    """

    def __init__(self, run: Path, data: Frames, show_preview: Callable[[float], None]) -> None:
        self._shown = Shown.of(data)
        self._preview = Preview(run, "fidelity", self._shown, every=EVERY_SECONDS, step=None)
        self._show_preview = show_preview
        self._drawn = 0
        self._began, self._drawing = time.monotonic(), 0.0

    def grown(self, memory: Memory, of: int) -> None:
        """Draw, when it is time to, what a memory of some of its bases makes of the frames."""
        if self._preview.is_due():
            self._draw(memory, of)

    def end(self, memory: Memory) -> None:
        """Draw what the whole memory makes of them; the curve then knows how long it took."""
        if self._drawn != len(memory.bases):
            self._draw(memory, len(memory.bases))

    def _draw(self, memory: Memory, of: int) -> None:
        began = time.monotonic()
        self._drawn = len(memory.bases)
        mean = self._preview.draw(
            lambda: self._remembered(memory),
            began - self._began - self._drawing,
            {"bases": self._drawn},
            f"a memory of {self._drawn} of {of} bases",
        )
        self._show_preview(mean)
        self._drawing += time.monotonic() - began

    @torch.no_grad()
    def _remembered(self, memory: Memory) -> NDArray[np.uint8]:
        latents = memory.encoder()(to_pictures(torch.from_numpy(self._shown.frames)))
        return to_frames(memory.decoder()(latents)).numpy()
