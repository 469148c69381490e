"""Tone mapping tables: all colours of a kind of picture, mapped to BT.709 once.

A table takes seconds to compute and depends only on two numbers. Those of the usual HDR, PQ and
HLG, are shipped with the project: `python -m film.read.colour_cube` writes them again.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TypeAlias

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from film.read.scaling import SCALING_FLAGS

BT2020_PRIMARIES = 9

Cube: TypeAlias = NDArray[np.uint16]
"""[512, 512, 3] RGB: a Hald CLUT of 64 steps a colour, red changing fastest."""
CubeSource: TypeAlias = Callable[[int, int], Cube]
"""Returns the cube of a transfer curve and primaries, by their H.273 numbers."""

CUBE_SHAPE = (512, 512, 3)

_STEPS = 64
_SHIPPED = {"pq": (16, BT2020_PRIMARIES), "hlg": (18, BT2020_PRIMARIES)}
_FILE = "colour_cubes.npz"


def make_cube(transfer: int, primaries: int) -> Cube:
    """Map all colours, in steps of 1/63, from a kind of picture to BT.709; takes seconds."""
    steps = np.round(np.linspace(0, 65535, _STEPS)).astype(np.uint16)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colours = np.stack([red, green, blue], axis=-1).reshape(CUBE_SHAPE)
    graph = av.filter.Graph()
    graph.threads = 1
    picture = av.VideoFrame.from_ndarray(colours, format="rgb48le")
    picture.pts = 0
    graph.link_nodes(
        graph.add(
            "buffer",
            video_size=f"{picture.width}x{picture.height}",
            pix_fmt=picture.format.name,
            time_base="1/1000",
            colorspace=str(picture.colorspace),
            range=str(picture.color_range),
        ),
        graph.add("setparams", color_primaries=str(primaries), color_trc=str(transfer)),
        graph.add(
            "scale",
            f"flags={SCALING_FLAGS}:out_primaries=bt709:out_transfer=bt709:intent=perceptual",
        ),
        graph.add("format", "rgb48le"),
        graph.add("buffersink"),
    ).configure()
    graph.push(picture)
    return graph.vpull().to_ndarray().astype(np.uint16)


@lru_cache(maxsize=1)
def shipped_cubes() -> dict[tuple[int, int], Cube]:
    """Return the cubes shipped with the project, by transfer curve and primaries."""
    data = resources.files("film.read").joinpath(_FILE).read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return {kind: _restored(stored[name]) for name, kind in _SHIPPED.items()}


@lru_cache(maxsize=16)
def any_cube(transfer: int, primaries: int) -> Cube:
    """Return a cube: one shipped with the project, or one computed here."""
    shipped = shipped_cubes().get((transfer, primaries))
    return shipped if shipped is not None else make_cube(transfer, primaries)


def _differences(cube: Cube) -> Cube:
    """Return, channel by channel, how each colour differs from its neighbours: small numbers."""
    steps = cube.reshape(_STEPS, _STEPS, _STEPS, 3)
    for axis in range(3):
        steps = np.diff(steps, axis=axis, prepend=np.uint16(0))
    return np.ascontiguousarray(np.moveaxis(steps, -1, 0))


def _restored(differences: Cube) -> Cube:
    steps = np.moveaxis(differences, 0, -1)
    for axis in reversed(range(3)):
        steps = np.cumsum(steps, axis=axis, dtype=np.uint16)
    return np.ascontiguousarray(steps).reshape(CUBE_SHAPE)


def write_shipped(path: Path) -> None:
    """Compute the cubes shipped with the project, and write them."""
    cubes = {name: _differences(make_cube(*kind)) for name, kind in _SHIPPED.items()}
    np.savez_compressed(path, allow_pickle=False, **cubes)


if __name__ == "__main__":
    write_shipped(Path(__file__).with_name(_FILE))
