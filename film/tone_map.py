"""HDR and wide-gamut pictures to BT.709, by swscale's own colour management.

swscale (FFmpeg 8) reads the transfer curve and primaries of BT.2100, maps the range of tones
perceptually (after BT.2390, with the film's mastering metadata where it has any) and the gamut
along with it, all in one table that it computes when a picture of a new kind comes: that takes
about two seconds, each picture afterwards a millisecond or two.
"""

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from film.frame import SCALING_FLAGS, rgb_array, source_matrix

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
        self._graph.push(frame)
        return rgb_array(self._graph.vpull())

    def _build(self, frame: av.VideoFrame) -> av.filter.Graph:
        matrix = source_matrix(frame)
        tags = {
            "color_primaries": frame.color_primaries if frame.color_primaries != 2 else 9,
            "color_trc": frame.color_trc if frame.color_trc != 2 else 1,
        }
        if matrix is not None:
            # Wide colours without a matrix are BT.2020's.
            tags["colorspace"] = 9
        graph = av.filter.Graph()
        graph.threads = 1
        graph.link_nodes(
            graph.add(
                "buffer",
                video_size=f"{frame.width}x{frame.height}",
                pix_fmt=frame.format.name,
                time_base="1/1000",
                colorspace=str(frame.colorspace),
                range=str(frame.color_range),
            ),
            graph.add("setparams", **{name: str(value) for name, value in tags.items()}),
            # Metadata that changes with every picture would have the table computed anew for each.
            graph.add("sidedata", "mode=delete:type=DYNAMIC_HDR_PLUS"),
            graph.add(
                "scale",
                f"{self.width}:{self.height}:flags={SCALING_FLAGS}"
                ":out_primaries=bt709:out_transfer=bt709:intent=perceptual",
            ),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ).configure()
        return graph
