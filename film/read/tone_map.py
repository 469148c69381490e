"""Maps HDR and wide-gamut pictures to BT.709, by swscale's own colour management.

swscale (FFmpeg 8) supports the transfer curves and primaries of BT.2100 and maps tones perceptually
(after BT.2390), and the gamut as well. Its table takes seconds to compute, and it would compute one
for every size and film; so here it maps a cube of all colours once for each kind of picture, and
films are mapped through that cube (a Hald CLUT, tetrahedral interpolation).
"""

import av
import av.filter
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from film.read.colour_cube import BT2020_PRIMARIES, Cube, CubeSource, any_cube
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

_RGB = 0
_BT709 = 1
_UNSPECIFIED = 2
_BT2020_MATRIX = 9

_HDR_TRANSFERS = frozenset((16, 18))
_WIDE_PRIMARIES = frozenset((9, 11, 12))


def is_hdr(frame: av.VideoFrame) -> bool:
    """Return whether a picture's tones are HDR: PQ or HLG."""
    return frame.color_trc in _HDR_TRANSFERS


def needs_mapping(frame: av.VideoFrame) -> bool:
    """Return whether a picture's tones or colours exceed BT.709."""
    return is_hdr(frame) or frame.color_primaries in _WIDE_PRIMARIES


class ToneMapper:
    """Scales and maps pictures to BT.709 RGB at one size; not thread-safe."""

    def __init__(self, width: int, height: int, cubes: CubeSource = any_cube) -> None:
        """Set the size, and the source of the tables."""
        self._cubes = cubes
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
        # The filter applies the cube to each picture, for which their times must increase.
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
            # Colours are unchanged here, apart from the matrix: the cube maps them.
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
        cube = _clut(
            self._cubes(
                frame.color_trc if frame.color_trc != _UNSPECIFIED else _BT709,
                primaries if primaries != _UNSPECIFIED else BT2020_PRIMARIES,
            )
        )
        _buffer(graph, cube).link_to(clut, 0, 1)
        graph.configure()
        graph.push(cube, at=1)
        graph.push(None, at=1)
        return graph


def _clut(cube: Cube) -> av.VideoFrame:
    """Return a cube in the filter's input format."""
    picture = av.VideoFrame.from_ndarray(cube, format="rgb48le")
    picture.pts = 0
    picture.colorspace = _RGB
    picture.color_range = ColorRange.JPEG
    return picture


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
    # Rounded to nearest; swscale would dither.
    wide = frame.to_ndarray().astype(np.uint32)
    return ((wide + 128) // 257).astype(np.uint8)
