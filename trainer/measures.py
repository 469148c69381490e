"""Measures a film's reconstructions from any source: each frame, then summaries of groups.

A **static shot** is one whose source changes by less than 1 grey level a pixel from frame to frame,
as the mean over the shot's measured changes. The static correlation is taken over all changes of
all static shots; the median and the lowest shot's are reported too, since shots with more motion
dominate it. A **black frame** is one whose source has a mean below 2 grey levels.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainer.dataset import Shot
from trainer.frame_metrics import (
    Change,
    brightness,
    change,
    correlation,
    psnr,
    similarities,
    summary,
    temporal_summary,
)

BATCH = 32
STATIC_CHANGE = 1.0
BLACK_LEVEL = 2.0
_PARTS = 10

Group = dict[str, object]
"""The summary of a group of frames; see `Measures.report`."""


def frames_to_read(count: int, every: int, batch: int = BATCH) -> Iterator[NDArray[np.int64]]:
    """Yield batches of the frames to read in order: those to measure, and the one before each.

    Every batch has at least one frame to measure.
    """
    indices = np.arange(count, dtype=np.int64)
    wanted = indices[(indices % every == 0) | ((indices + 1) % every == 0)]
    if every > 1 and wanted[-1] % every:
        wanted = wanted[:-1]
    for first in range(0, len(wanted), batch):
        yield wanted[first : first + batch]


class Measures:
    """The measures so far, in the order of the frames."""

    def __init__(self, shots: Sequence[Shot], every: int = 1) -> None:
        """Start without any measures.

        Args:
            shots: The data set's; changes across a cut are not measured.
            every: Measure every n-th frame only; changes are still from one frame to the next.
        """
        self._firsts = np.array([shot.first for shot in shots], np.int64)
        self._every = every
        self._index: list[int] = []
        self._values: dict[str, list[float]] = {}
        self._changes: list[Change | None] = []
        self._before: tuple[int, Tensor, Tensor] | None = None

    def add(self, indices: NDArray[np.int64], source: Tensor, result: Tensor) -> None:
        """Measure a batch.

        Args:
            indices: Of the frames in the data set, ascending over all calls, ``[N]``. Frames that
                are not measured are used for the change to the next.
            source: uint8 ``[N, 144, 256, 3]``.
            result: Their reconstructions, of the same shape and on the same device.
        """
        chosen = np.flatnonzero(indices % self._every == 0)
        if len(chosen):
            self._add_pictures(source[chosen], result[chosen])
        for row, index in enumerate(indices.tolist()):
            now = (index, source[row], result[row])
            if index % self._every == 0:
                self._index.append(index)
                self._changes.append(self._change(now))
            self._before = now
        if self._before is not None:
            # The caller may reuse the buffers for the next batch.
            index, *pictures = self._before
            self._before = (index, pictures[0].clone(), pictures[1].clone())

    def _add_pictures(self, source: Tensor, result: Tensor) -> None:
        ssim, ms_ssim, haarpsi = similarities(source, result)
        luma, source_level = brightness(source)
        _, level = brightness(result)
        measured = {
            "psnr": psnr(source, result),
            "ssim": ssim,
            "ms_ssim": ms_ssim,
            "haarpsi": haarpsi,
            "luma": luma,
            "source_level": source_level,
            "level": level,
        }
        for name, values in measured.items():
            self._values.setdefault(name, []).extend(values.tolist())

    def _change(self, now: tuple[int, Tensor, Tensor]) -> Change | None:
        if self._before is None or self._before[0] != now[0] - 1 or now[0] in self._firsts:
            return None
        return change(self._before[1:], now[1:])

    @property
    def index(self) -> NDArray[np.int64]:
        """Which frames were measured, ascending, ``[M]``."""
        return np.array(self._index, np.int64)

    @property
    def psnr(self) -> NDArray[np.float64]:
        """Their PSNR in dB, ``[M]``."""
        return np.array(self._values.get("psnr", []), np.float64)

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Return every measure of every measured frame, each ``[M]``.

        psnr, ssim, ms_ssim, haarpsi; luma and source_level (the source's mean BT.709 luma, and mean
        of all colours), level (the reconstruction's), all grey levels; temporal_error (grey levels,
        NaN where no change is measured).
        """
        errors = [np.nan if each is None else each.error for each in self._changes]
        return {name: np.array(values) for name, values in self._values.items()} | {
            "temporal_error": np.array(errors)
        }

    def report(self, groups: Mapping[str, NDArray[np.bool_]]) -> dict[str, Group]:
        """Return the summaries of groups of frames; empty groups are left out.

        Args:
            groups: For each group, which of the measured frames are in it, ``[M]``.
        """
        columns = self.columns()
        shots = np.searchsorted(self._firsts, self.index, side="right")
        changes = {
            shot: [self._changes[row] for row in np.flatnonzero(shots == shot)]
            for shot in np.unique(shots).tolist()
        }
        static = [shot for shot, members in changes.items() if _is_static(members)]
        return {
            name: self._group(columns, np.flatnonzero(chosen), shots, static)
            for name, chosen in groups.items()
            if chosen.any()
        }

    def _group(
        self,
        columns: Mapping[str, NDArray[np.float64]],
        rows: NDArray[np.int64],
        shots: NDArray[np.int64],
        static: Sequence[int],
    ) -> Group:
        own = {name: values[rows] for name, values in columns.items()}
        in_static = [
            _known([self._changes[row] for row in rows[shots[rows] == shot]]) for shot in static
        ]
        return {
            "frames": len(rows),
            **{name: summary(own[name]) for name in ("psnr", "ssim", "ms_ssim", "haarpsi")},
            "temporal": temporal_summary(_known([self._changes[row] for row in rows])),
            "static_shots": _static_summary([shot for shot in in_static if shot]),
            "by_brightness": _by_brightness(own["luma"], own["psnr"]),
            "black": _black_summary(own["source_level"], own["level"]),
        }


def summary_of(groups: Mapping[str, Group]) -> dict[str, dict[str, float]]:
    """Return the means alone, for the model card."""
    return {
        name: {
            key: round(value["mean"], 4)
            for key, value in group.items()
            if isinstance(value, dict) and "mean" in value
        }
        for name, group in groups.items()
    }


def _known(changes: Sequence[Change | None]) -> list[Change]:
    return [each for each in changes if each is not None]


def _is_static(changes: Sequence[Change | None]) -> bool:
    known = [each.source_change for each in changes if each is not None]
    return bool(known) and float(np.mean(known)) < STATIC_CHANGE


def _static_summary(shots: Sequence[list[Change]]) -> Group | None:
    """Summarise the changes within static shots; None without any, or where none changes at all."""
    each = [value for value in map(correlation, shots) if value is not None]
    if not each:
        return None
    changes = [change for shot in shots for change in shot]
    return {
        "shots": len(shots),
        "changes": len(changes),
        "correlation": correlation(changes),
        "median_shot": float(np.median(each)),
        "lowest_shot": min(each),
    }


def _by_brightness(luma: NDArray[np.float64], psnr: NDArray[np.float64]) -> list[Group]:
    """Return the mean PSNR of each tenth of the frames, the darkest first."""
    parts = np.array_split(np.argsort(luma, kind="stable"), _PARTS)
    return [
        {
            "frames": len(part),
            "from": float(luma[part[0]]),
            "to": float(luma[part[-1]]),
            "psnr": float(psnr[part].mean()),
        }
        for part in parts
        if len(part)
    ]


def _black_summary(source: NDArray[np.float64], result: NDArray[np.float64]) -> Group | None:
    """Return the brightness of the reconstructions of black frames; None without any."""
    levels = result[source < BLACK_LEVEL]
    if not len(levels):
        return None
    return {"frames": len(levels), "level": float(levels.mean()), "highest": float(levels.max())}
