"""The picture of a training that improves: a few frames above what is made of them now.

<run>/preview.png      rewritten as the training goes on; whole whenever it is looked at
<run>/preview.jsonl    a line each time: seconds trained, how far that is, PSNR

How far is a step's number. What a recipe does before the first step has lines of its own, without a
step; their seconds come before those of the steps.
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
from trainer.metrics import psnr
from trainer.sampler import Frames, spread

PICTURE = "preview.png"
CURVE = "preview.jsonl"

_SHOWN = 6
"""Frames that are shown: half of them fitted, half held out where there are any."""

_SHARE = 0.1
"""How much of the time may go into drawing, after the first."""

_MARGIN = 48
_HEADER = 100
_GUTTER = 16
_SEAM = 3
_LABEL = 32


@dataclass(frozen=True, slots=True)
class Shown:
    """The frames of a data set that show what a training comes to."""

    frames: NDArray[np.uint8]
    """``[N, 144, 256, 3]``."""
    held_out: int
    """How many of them, the last ones, the training never sees."""

    @classmethod
    def of(cls, data: Frames) -> "Shown":
        """Choose them, evenly spread.

        Raises:
            DatasetError: There is none.
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
        name: what is being trained.
        shown: the frames.
        every: seconds between two pictures; more where drawing is slow.
        step: the step that the training goes on from; the curve's lines from there on are dropped,
            because those steps happen again. None where all of it begins anew: no line is kept.
    """

    def __init__(
        self, run: Path, name: str, shown: Shown, *, every: float, step: int | None
    ) -> None:
        self._picture, self._curve, self._name = run / PICTURE, run / CURVE, name
        self._shown, self._every = shown, every
        self._next = 0.0
        kept = [] if step is None else _lines_before(step, self._curve)
        # Of what came before the first step.
        self._before = max((line["seconds"] for line in kept if "step" not in line), default=0.0)
        if self._curve.exists():
            replace_text(self._curve, "".join(json.dumps(line) + "\n" for line in kept))

    def is_due(self) -> bool:
        """Whether it is time for the next picture."""
        return time.monotonic() >= self._next

    def draw(
        self,
        make: Callable[[], NDArray[np.uint8]],
        seconds: float,
        far: Mapping[str, int],
        note: str,
    ) -> float:
        """Rewrite the picture, add a line to the curve, and return the frames' mean PSNR in dB.

        Args:
            make: returns the shown frames' reconstructions, uint8 [N, 144, 256, 3].
            seconds: time spent on steps, or on what comes before them.
            far: how far the training is, as the curve says it.
            note: the same, as the picture says it.
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
            line = {"seconds": round(seconds, 3), **far, "psnr": round(mean, 4)}
            curve.write(json.dumps(line) + "\n")
        ended = time.monotonic()
        self._next = ended + max(self._every, (ended - began) / _SHARE)
        return mean


def _lines_before(step: int, curve: Path) -> list[dict[str, float]]:
    """Read the lines of steps before this one, and of what came before the first."""
    if not curve.exists():
        return []
    lines = [_parsed(line) for line in curve.read_text("utf-8").splitlines()]
    return [line for line in lines if line and line.get("step", -1) < step]


def _parsed(line: str) -> dict[str, float]:
    """Read a line; one that a killed process left half written says nothing."""
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
