"""A live preview of a training: a few frames above their current reconstructions.

<run>/preview.png      rewritten atomically as the training goes on
<run>/preview.jsonl    a line each time: seconds trained, step, PSNR

Work before the first step (fitting a memory) has lines without a step; their seconds come first.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from trainer.contact_sheet import FAINT, INK, PAPER
from trainer.durable import replace_text
from trainer.errors import DatasetError
from trainer.frame_metrics import psnr
from trainer.sampler import Frames, spread

PICTURE = "preview.png"
CURVE = "preview.jsonl"

_SHOWN = 6
"""Frames shown: half fitted, half held out if there are any."""

_SHARE = 0.1
"""Largest share of the time to spend on drawing, after the first picture."""

_MARGIN = 48
_HEADER = 100
_GUTTER = 16
_SEAM = 3
_LABEL = 32


@dataclass(frozen=True, slots=True)
class PreviewFrames:
    """The frames of a data set that the preview shows."""

    frames: NDArray[np.uint8]
    """``[N, 144, 256, 3]``."""
    held_out: int
    """How many of them, at the end, are held out."""

    @classmethod
    def of(cls, data: Frames) -> "PreviewFrames":
        """Choose them, evenly spread.

        Raises:
            DatasetError: The data set is empty.
        """
        halves = [half for half in (data.fitted, data.held_out) if len(half)]
        if not halves:
            raise DatasetError("the data set has no frame to show")
        chosen = [spread(half, _SHOWN // len(halves)) for half in halves]
        frames = data.frames(np.concatenate(chosen))
        return cls(frames, len(frames) - len(chosen[0]) if len(data.fitted) else 0)


class Preview:
    """Draws the picture and keeps the curve of a run.

    Args:
        run: the run's directory.
        name: of the recipe.
        shown: the frames.
        every: seconds between two pictures; more if drawing is slow.
        step: the step that the training resumes from; the curve's later lines are dropped, since
            those steps are repeated. None if it starts from scratch: all lines are dropped.
    """

    def __init__(
        self, run: Path, name: str, shown: PreviewFrames, *, every: float, step: int | None
    ) -> None:
        self._picture, self._curve, self._name = run / PICTURE, run / CURVE, name
        self._shown, self._every = shown, every
        self._next = 0.0
        kept = [] if step is None else _lines_before(step, self._curve)
        # Seconds spent before the first step.
        self._before = max((line["seconds"] for line in kept if "step" not in line), default=0.0)
        if self._curve.exists():
            replace_text(self._curve, "".join(json.dumps(line) + "\n" for line in kept))

    def is_due(self) -> bool:
        """Whether the next picture is due."""
        return time.monotonic() >= self._next

    def draw(
        self,
        make: Callable[[], NDArray[np.uint8]],
        seconds: float,
        position: Mapping[str, int],
        note: str,
    ) -> float:
        """Rewrite the picture, add a line to the curve, and return the frames' mean PSNR in dB.

        Args:
            make: returns the shown frames' reconstructions, uint8 [N, 144, 256, 3].
            seconds: time spent on steps, or on the work before the first one.
            position: of the training (step, or bases), for the curve.
            note: the same, for the picture.
        """
        began = time.monotonic()
        frames, made = self._shown.frames, make()
        measured = psnr(torch.from_numpy(frames), torch.from_numpy(made))
        mean, seconds = float(measured.mean()), self._before + seconds
        labels = [f"{value:.1f} dB" for value in measured.tolist()]
        for row in range(len(labels) - self._shown.held_out, len(labels)):
            labels[row] += ", held out"
        note = f"{self._name} · 200 numbers a frame · {_minutes(seconds)} · {note}"
        staged = self._picture.with_name(f".{self._picture.name}")
        _paint(frames, made, labels, f"{mean:.1f} dB", note).save(staged)
        staged.replace(self._picture)
        with self._curve.open("a", encoding="utf-8") as curve:
            line = {"seconds": round(seconds, 3), **position, "psnr": round(mean, 4)}
            curve.write(json.dumps(line) + "\n")
        ended = time.monotonic()
        self._next = ended + max(self._every, (ended - began) / _SHARE)
        return mean


def _lines_before(step: int, curve: Path) -> list[dict[str, float]]:
    """Read the lines of earlier steps, and of the work before the first step."""
    if not curve.exists():
        return []
    lines = [_parsed(line) for line in curve.read_text("utf-8").splitlines()]
    return [line for line in lines if line and line.get("step", -1) < step]


def _parsed(line: str) -> dict[str, float]:
    """Parse a line; empty for an incomplete line of a killed process."""
    try:
        parsed = dict(json.loads(line))
    except (ValueError, TypeError):
        return {}
    return parsed if "seconds" in parsed else {}


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.1f} minutes" if minutes < 99.95 else f"{minutes:.0f} minutes"


def _paint(
    frames: NDArray[np.uint8], made: NDArray[np.uint8], labels: list[str], title: str, note: str
) -> Image.Image:
    count, tall, wide, _ = frames.shape
    width = 2 * _MARGIN + count * wide + (count - 1) * _GUTTER
    height = _MARGIN + _HEADER + 2 * tall + _SEAM + _LABEL + _MARGIN
    picture = Image.new("RGB", (max(width, 2 * _MARGIN + 3 * wide), height), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN - 10), title, INK, ImageFont.load_default(46))
    draw.text((_MARGIN, _MARGIN + 50), note, FAINT, ImageFont.load_default(19))
    top = _MARGIN + _HEADER
    for column, label in enumerate(labels):
        left = _MARGIN + column * (wide + _GUTTER)
        picture.paste(Image.fromarray(frames[column]), (left, top))
        picture.paste(Image.fromarray(made[column]), (left, top + tall + _SEAM))
        place = (left, top + 2 * tall + _SEAM + 8)
        draw.text(place, label, FAINT, ImageFont.load_default(17))
    return picture
