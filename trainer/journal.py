"""What a training logs for people: TensorBoard events, sample grids and the live preview."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.tensorboard.writer import SummaryWriter

from trainer.distributed import Group
from trainer.preview import Preview, PreviewFrames
from trainer.sampler import Frames

PREVIEW_SECONDS = 20.0
"""How often the preview is drawn, or less often where drawing is slow."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Steps between two entries."""

    log: int
    """Rows of TensorBoard scalars."""
    sample: int
    """Sample grids."""


class Journal:
    """Written by the leader process, a no-op in the others; a context manager.

    Args:
        name: of the recipe.
        reconstruct: the learner's current reconstruction of uint8 frames [N, 144, 256, 3].
        data: source of the frames to show.
        run: the run's directory.
        step: the step that the training resumes from.
        intervals: how often to write what.
        group: the processes that train together.
        show_preview: called with the preview's PSNR in dB each time it is drawn.
    """

    def __init__(
        self,
        name: str,
        reconstruct: Callable[[torch.Tensor], torch.Tensor],
        data: Frames,
        run: Path,
        step: int,
        intervals: Intervals,
        group: Group,
        show_preview: Callable[[float], None],
    ) -> None:
        self._reconstruct, self._run, self._intervals = reconstruct, run, intervals
        self._group, self._show_preview = group, show_preview
        if not group.is_leader:
            return
        # Steps after the checkpoint are repeated: drop their events, or they would show twice.
        self._writer = SummaryWriter(str(run / "events"), purge_step=step + 1)
        self._shown = PreviewFrames.of(data)
        self._preview = Preview(run, name, self._shown, every=PREVIEW_SECONDS, step=step)
        self._made: tuple[int, NDArray[np.uint8]] | None = None
        self._grid_of = self._preview_of = -1

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._group.is_leader:
            self._writer.close()

    def begin(self, step: int, seconds: float) -> None:
        """Draw the preview before the first step of this process."""
        if self._group.is_leader:
            self._draw_preview(step, seconds)

    def write(self, step: int, seconds: float, losses: Mapping[str, float], rate: float) -> None:
        """Write what is due after a step, `seconds` into the training."""
        if not self._group.is_leader:
            return
        if step % self._intervals.log == 0:
            for name, value in losses.items():
                self._writer.add_scalar(f"loss/{name}", value, step)
            self._writer.add_scalar("frames_per_second", rate, step)
        if step % self._intervals.sample == 0:
            self._draw_grid(step)
        if self._preview.is_due():
            self._draw_preview(step, seconds)

    def end(self, step: int, seconds: float) -> None:
        """Draw the final grid and preview."""
        if self._group.is_leader:
            self._draw_grid(step)
            self._draw_preview(step, seconds)

    def _draw_grid(self, step: int) -> None:
        """Draw originals above their reconstructions; fitted frames first, then held out."""
        if step == self._grid_of:
            return
        self._grid_of = step
        made = self._reconstructions(step)
        half = len(made) // 2
        truth = self._shown.frames
        rows = [truth[:half], made[:half], truth[half:], made[half:]]
        grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows if len(row)])
        self._writer.add_image("samples", grid, step, dataformats="HWC")
        self._writer.flush()
        path = self._run / "samples" / f"step_{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(grid).save(path)

    def _draw_preview(self, step: int, seconds: float) -> None:
        if step == self._preview_of:
            return
        self._preview_of = step
        mean = self._preview.draw(
            lambda: self._reconstructions(step), seconds, {"step": step}, f"step {step:,}"
        )
        self._show_preview(mean)

    def _reconstructions(self, step: int) -> NDArray[np.uint8]:
        """Return the shown frames' reconstructions after this step, computed once a step."""
        if self._made is None or self._made[0] != step:
            frames = torch.from_numpy(self._shown.frames).to(self._group.device)
            self._made = step, self._reconstruct(frames).cpu().numpy()
        return self._made[1]
