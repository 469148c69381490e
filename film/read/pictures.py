"""From decoded pictures to upright RGB: deinterlace, scale, tone-map, rotate."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import av.filter
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer
from numpy.typing import NDArray

from film.letterbox import NO_BARS, Bars
from film.read.colour_cube import CubeSource, any_cube
from film.read.scaling import Scaler
from film.read.tone_map import ToneMapper, needs_mapping


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture is turned for display: transposed first, then flipped."""

    transposed: bool = False
    flipped_horizontally: bool = False
    flipped_vertically: bool = False

    @property
    def rotation(self) -> int:
        """Clockwise degrees: 0, 90, 180 or 270; a mirrored picture counts as its rotated part."""
        if self.transposed:
            return 90 if self.flipped_horizontally else 270
        return 180 if self.flipped_vertically else 0

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a picture, [H, W, 3]; a view where possible."""
        if self.transposed:
            rgb = rgb.transpose(1, 0, 2)
        if self.flipped_horizontally:
            rgb = rgb[:, ::-1]
        if self.flipped_vertically:
            rgb = rgb[::-1]
        return rgb


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Read a picture's display matrix; angles between the quarter turns go to the nearest."""
    # `frame.side_data` creates a reference cycle: frames of many megabytes would live until the
    # next garbage collection.
    matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg] # Its stub has no constructor.
    if not isinstance(matrix, SideData):
        return UPRIGHT
    values = np.frombuffer(bytes(matrix), np.int32)
    if len(values) != 9:
        return UPRIGHT
    # FFmpeg's matrix takes (x, y) to (a x + c y, b x + d y).
    a, b, c, d = (int(values[index]) for index in (0, 1, 3, 4))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


class Deinterlacer:
    """Deinterlaces pictures that are flagged interlaced; returns as many as it gets, in order.

    The filter (bwdif) uses neighbours, so it delays pictures; their metadata is passed along. Until
    the first interlaced picture nothing is filtered.
    """

    def __init__(self) -> None:
        self.changes = 0
        """How often filtering began or ended."""
        self._begun = False
        self._graph: av.filter.Graph | None = None
        self._kind: tuple[int, int, str] | None = None
        self._waiting: deque[av.VideoFrame] = deque()

    @property
    def active(self) -> bool:
        """Whether pictures are filtered now."""
        return self._graph is not None

    def begin(self) -> None:
        """Filter from the next picture on, as if an interlaced one had come before."""
        self._begun = True

    def push(self, frame: av.VideoFrame) -> Iterator[tuple[av.VideoFrame, av.VideoFrame]]:
        """Take a picture; yield those that are ready, each with the stored one it was made of."""
        kind = (frame.width, frame.height, frame.format.name)
        if self._graph is not None and self._kind != kind:
            yield from self.flush()
        if self._graph is None:
            if not frame.interlaced_frame and not self._begun:
                yield frame, frame
                return
            self.changes += not self._begun
            self._begun = False
            self._graph, self._kind = _deinterlacing_graph(frame), kind
        self._waiting.append(frame)
        self._graph.push(frame)
        yield from self._ready(self._graph)

    def flush(self) -> Iterator[tuple[av.VideoFrame, av.VideoFrame]]:
        """Yield the pictures still in the filter; another may follow."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready(self._graph)
            self._graph = None
            self.changes += 1
            # Return as many pictures as came in.
            while self._waiting:
                frame = self._waiting.popleft()
                yield frame, frame

    def _ready(self, graph: av.filter.Graph) -> Iterator[tuple[av.VideoFrame, av.VideoFrame]]:
        while self._waiting:
            try:
                filtered = graph.vpull()
            except (BlockingIOError, EOFError):
                return
            yield filtered, self._waiting.popleft()


def _deinterlacing_graph(frame: av.VideoFrame) -> av.filter.Graph:
    # One picture a frame, and only those flagged interlaced.
    return _graph(frame, "bwdif", "mode=send_frame:deint=interlaced")


def _graph(frame: av.VideoFrame, name: str, arguments: str) -> av.filter.Graph:
    """Make a graph of one filter for pictures like the one given."""
    graph = av.filter.Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base=str(Fraction(1, 1000)),
            colorspace=str(frame.colorspace),
            range=str(frame.color_range),
        ),
        graph.add(name, arguments),
        graph.add("buffersink"),
    ).configure()
    return graph


class Cropper:
    """Crops the bars of decoded pictures of one film."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._kind: tuple[object, ...] | None = None
        self._graph: av.filter.Graph | None = None

    def crop(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return the picture without its bars; unchanged if it has none, or nothing else."""
        bars = self._bars
        # Whole pixels of the colour planes, which are half as large.
        left, top = bars.left + bars.left % 2, bars.top + bars.top % 2
        width, height = frame.width - left - bars.right, frame.height - top - bars.bottom
        if not bars or width < 2 or height < 2:
            return frame
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is None or self._kind != kind:
            place = f"w={width}:h={height}:x={left}:y={top}"
            self._graph, self._kind = _graph(frame, "crop", place), kind
        self._graph.push(frame)
        return self._graph.vpull()


class Renderer:
    """Converts decoded pictures of any kind to upright RGB of one size."""

    def __init__(
        self, width: int, height: int, bars: Bars = NO_BARS, *, cubes: CubeSource = any_cube
    ) -> None:
        """Set up.

        Args:
            width: of the rendered pictures, in pixels.
            height: likewise.
            bars: what is cropped from the stored pictures before they are scaled.
            cubes: the source of the tone mapping tables.
        """
        self._cubes = cubes
        self._width = width
        self._height = height
        self._cropper = Cropper(bars)
        self._scalers: dict[tuple[bool, bool], Callable[[av.VideoFrame], NDArray[np.uint8]]] = {}

    def render(self, frame: av.VideoFrame, orientation: Orientation) -> NDArray[np.uint8]:
        """Render a picture, [height, width, 3] RGB."""
        scale = self._scaler(orientation.transposed, needs_mapping(frame))
        return orientation.apply(scale(self._cropper.crop(frame)))

    def _scaler(
        self, transposed: bool, mapped: bool
    ) -> Callable[[av.VideoFrame], NDArray[np.uint8]]:
        scaler = self._scalers.get((transposed, mapped))
        if scaler is None:
            # Scaled as stored and rotated afterwards, when it is small.
            size = (self._height, self._width) if transposed else (self._width, self._height)
            scaler = ToneMapper(*size, self._cubes).scale if mapped else Scaler(*size).scale
            self._scalers[transposed, mapped] = scaler
        return scaler
