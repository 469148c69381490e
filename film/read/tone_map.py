"""HDR and wide-gamut pictures to BT.709, by swscale's own colour management.

swscale (FFmpeg 8) knows the transfer curves and primaries of BT.2100 and maps the range of tones
perceptually (after BT.2390), and the gamut along with it. Its table takes seconds to compute, and
it would compute one for every size and film; so here it maps a cube of all colours once for each
kind of picture, and films are mapped through that cube (a Hald CLUT, tetrahedral interpolation).
"""

from functools import lru_cache

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from film.read.scaling import SCALING_FLAGS, source_matrix

TRANSFER_NAMES = {
    1: "bt709",
    2: "unknown",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
"""H.273 TransferCharacteristics by the names that FFmpeg gives them."""

_BT709 = 1
_UNSPECIFIED = 2
_BT2020_PRIMARIES = 9
_BT2020_MATRIX = 9

_CUBE_LEVEL = 8
"""64 steps a colour."""

_HDR_TRANSFERS = frozenset((16, 18))
_WIDE_PRIMARIES = frozenset((9, 11, 12))


def is_hdr(frame: av.VideoFrame) -> bool:
    """Say whether a picture's tones are HDR: PQ or HLG."""
    return frame.color_trc in _HDR_TRANSFERS


def needs_mapping(frame: av.VideoFrame) -> bool:
    """Say whether a picture's tones or colours lie outside BT.709."""
    return is_hdr(frame) or frame.color_primaries in _WIDE_PRIMARIES


class ToneMapper:
    """Scales and maps pictures to BT.709 RGB at one size; not for several threads at once."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._graph: av.filter.Graph | None = None
        self._kind: tuple[object, ...] = ()
        self._count = 0

    def scale(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Scale and map a picture; the whole picture fills the size. [height, width, 3] RGB."""
        kind = (
            frame.width,
            frame.height,
            frame.format.name,
            frame.colorspace,
            frame.color_range,
            frame.color_trc,
            frame.color_primaries,
        )
        if self._graph is None or self._kind != kind:
            self._graph = self._build(frame)
            self._kind = kind
        # The cube is laid over every picture in turn, for which their times must run forward.
        frame.pts, self._count = self._count, self._count + 1
        self._graph.push(frame, at=0)
        return _to_bytes(self._graph.vpull())

    def _build(self, frame: av.VideoFrame) -> av.filter.Graph:
        matrix = frame.colorspace if source_matrix(frame) is None else _BT2020_MATRIX
        graph = av.filter.Graph()
        graph.threads = 1
        clut = graph.add("haldclut", "clut=first:interp=tetrahedral")
        graph.link_nodes(
            _buffer(graph, frame),
            # Colours are left as they are here, apart from the matrix: the cube maps them.
            graph.add(
                "setparams",
                colorspace=str(matrix),
                color_primaries=str(_UNSPECIFIED),
                color_trc=str(_UNSPECIFIED),
            ),
            graph.add("scale", f"{self.width}:{self.height}:flags={SCALING_FLAGS}"),
            graph.add("format", "rgb48le"),
            clut,
            graph.add("format", "rgb48le"),
            graph.add("buffersink"),
        )
        primaries = frame.color_primaries
        cube = _cube(
            frame.color_trc if frame.color_trc != _UNSPECIFIED else _BT709,
            primaries if primaries != _UNSPECIFIED else _BT2020_PRIMARIES,
        )
        _buffer(graph, cube).link_to(clut, 0, 1)
        graph.configure()
        graph.push(cube, at=1)
        graph.push(None, at=1)
        return graph


@lru_cache(maxsize=16)
def _cube(transfer: int, primaries: int) -> av.VideoFrame:
    """Map all colours, in steps of 1/63, from a kind of picture to BT.709: a Hald CLUT."""
    side = _CUBE_LEVEL**2
    steps = np.round(np.linspace(0, 65535, side)).astype(np.uint16)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colours = np.stack([red, green, blue], axis=-1).reshape(_CUBE_LEVEL**3, _CUBE_LEVEL**3, 3)
    graph = av.filter.Graph()
    graph.threads = 1
    cube = av.VideoFrame.from_ndarray(colours, format="rgb48le")
    cube.pts = 0
    graph.link_nodes(
        _buffer(graph, cube),
        graph.add("setparams", color_primaries=str(primaries), color_trc=str(transfer)),
        graph.add(
            "scale",
            f"flags={SCALING_FLAGS}:out_primaries=bt709:out_transfer=bt709:intent=perceptual",
        ),
        graph.add("format", "rgb48le"),
        graph.add("buffersink"),
    ).configure()
    graph.push(cube)
    return graph.vpull()


def _buffer(graph: av.filter.Graph, frame: av.VideoFrame) -> av.filter.context.FilterContext:
    return graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base="1/1000",
        colorspace=str(frame.colorspace),
        range=str(frame.color_range),
    )


def _to_bytes(frame: av.VideoFrame) -> NDArray[np.uint8]:
    # Rounded to the nearest; swscale would dither.
    wide = frame.to_ndarray().astype(np.uint32)
    return ((wide + 128) // 257).astype(np.uint8)
