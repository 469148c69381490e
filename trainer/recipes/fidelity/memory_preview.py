"""Live preview while `fidelity` fits its memory, basis by basis."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.export import to_frames, to_pictures
from trainer.preview import Preview, PreviewFrames
from trainer.recipes.fidelity.memory import Memory
from trainer.sampler import Frames

EVERY_SECONDS = 3.0
"""How often the preview is drawn; less often if drawing is slow."""


class MemoryPreview:
    """Draws the reconstructions of a few frames by the bases fitted so far.

    Args:
        run: the run's directory; an existing curve is dropped, since the fit starts over.
        data: source of the frames to show.
        show_preview: called with the preview's PSNR in dB each time it is drawn.
    """

    def __init__(self, run: Path, data: Frames, show_preview: Callable[[float], None]) -> None:
        self._shown = PreviewFrames.of(data)
        self._preview = Preview(run, "fidelity", self._shown, every=EVERY_SECONDS, step=None)
        self._show_preview = show_preview
        self._drawn = 0
        self._began, self._drawing = time.monotonic(), 0.0

    def on_basis(self, memory: Memory, of: int) -> None:
        """Draw the preview of a partly fitted memory if one is due."""
        if self._preview.is_due():
            self._draw(memory, of)

    def end(self, memory: Memory) -> None:
        """Draw the preview of the whole memory, which also records how long the fit took."""
        if self._drawn != len(memory.bases):
            self._draw(memory, len(memory.bases))

    def _draw(self, memory: Memory, of: int) -> None:
        began = time.monotonic()
        self._drawn = len(memory.bases)
        mean = self._preview.draw(
            lambda: self._reconstructions(memory),
            began - self._began - self._drawing,
            {"bases": self._drawn},
            f"a memory of {self._drawn} of {of} bases",
        )
        self._show_preview(mean)
        self._drawing += time.monotonic() - began

    @torch.no_grad()
    def _reconstructions(self, memory: Memory) -> NDArray[np.uint8]:
        latents = memory.encoder()(to_pictures(torch.from_numpy(self._shown.frames)))
        return to_frames(memory.decoder()(latents)).numpy()
