"""The picture of a training that improves: a few frames above what is made of them now.

<run>/preview.png      rewritten as the training goes on; whole whenever it is looked at
<run>/preview.jsonl    a line each time: seconds trained, step, PSNR
"""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from trainer.contact_sheet import FAINT, INK, PAPER
from trainer.durable import replace_text
from trainer.metrics import psnr

PICTURE = "preview.png"
CURVE = "preview.jsonl"

_MARGIN = 48
_HEADER = 100
_GUTTER = 16
_SEAM = 3
_LABEL = 32


class Preview:
    """Draws the picture and keeps the curve of a run.

    Args:
        run: the run's directory.
        name: what is being trained.
        step: the step that the training goes on from; the curve's lines from there on are dropped,
            because those steps happen again.
    """

    def __init__(self, run: Path, name: str, step: int) -> None:
        self._picture, self._curve, self._name = run / PICTURE, run / CURVE, name
        if self._curve.exists():
            lines = self._curve.read_text("utf-8").splitlines()
            kept = [line + "\n" for line in lines if _step_of(line) < step]
            replace_text(self._curve, "".join(kept))

    def draw(
        self,
        frames: NDArray[np.uint8],
        made: NDArray[np.uint8],
        held_out: int,
        *,
        step: int,
        seconds: float,
    ) -> float:
        """Rewrite the picture, add a line to the curve, and return the frames' mean PSNR in dB.

        Args:
            frames: of the film, uint8 [N, 144, 256, 3].
            made: their reconstructions, uint8 [N, 144, 256, 3].
            held_out: how many of them, the last ones, the training never sees.
            step: steps done since the training began.
            seconds: time spent on them.
        """
        measured = psnr(torch.from_numpy(frames), torch.from_numpy(made))
        mean = float(measured.mean())
        labels = [f"{value:.1f} dB" for value in measured.tolist()]
        for row in range(len(labels) - held_out, len(labels)):
            labels[row] += ", held out"
        note = f"{self._name} · 200 numbers a frame · {_minutes(seconds)} · step {step:,}"
        staged = self._picture.with_name(f".{self._picture.name}")
        _paint(frames, made, labels, f"{mean:.1f} dB", note).save(staged)
        staged.replace(self._picture)
        with self._curve.open("a", encoding="utf-8") as curve:
            line = {"seconds": round(seconds, 3), "step": step, "psnr": round(mean, 4)}
            curve.write(json.dumps(line) + "\n")
        return mean


def _step_of(line: str) -> float:
    """Read a line's step; a line that a killed process left half written has none."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


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
