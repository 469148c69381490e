"""Curves: PSNR against bytes a frame, and against minutes of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]
"""Points, by their first number."""

_SIZE = (9.0, 5.2)
_DPI = 110


def rate_curve(
    curves: Mapping[str, Curve], path: Path, *, title: str, codecs: Sequence[str]
) -> None:
    """Draw PSNR against bytes a frame; codecs are dashed."""
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        style = "--" if name in codecs else "-"
        axes.plot(*_columns(curve), style, marker="o", markersize=4, label=name)
    axes.set_xscale("log", base=2)
    ticks = [25, 50, 100, 200, 400, 800]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.axvline(200, color="0.8", linewidth=1, zorder=0)
    _finish(axes, title, "bytes a frame, without the decoder", figure, path)


def training_curve(
    curves: Mapping[str, Curve],
    begun: Mapping[str, float],
    levels: Mapping[str, float],
    path: Path,
    *,
    title: str,
) -> None:
    """Draw PSNR against minutes, and levels to compare with as dashed lines.

    A dot marks the end of the memory's fit.
    """
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        (line,) = axes.plot(*_columns(curve), label=name)
        if name in begun:
            whole = max(point for point in curve if point[0] <= begun[name])
            axes.plot(*whole, marker="o", color=line.get_color())
    for number, (name, level) in enumerate(levels.items()):
        axes.axhline(level, color=str(0.35 + 0.2 * number), linestyle="--", label=name)
    _finish(axes, title, "minutes of training", figure, path)


def _columns(curve: Curve) -> tuple[list[float], list[float]]:
    return [x for x, _ in curve], [y for _, y in curve]


def _finish(axes: Axes, title: str, along: str, figure: Figure, path: Path) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(along)
    axes.set_ylabel("PSNR, dB")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    staged = path.with_name(f".{path.name}")
    # Without a timestamp: the same figures give the same bytes.
    figure.savefig(staged, format="png", metadata={"Software": None})
    staged.replace(path)
