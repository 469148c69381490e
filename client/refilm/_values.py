"""What calls return: small values that compare, print and are typed."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    """float32 values; an `array('f')` where numpy is not installed."""

ImageFormat = Literal["raw", "png", "jpeg", "webp"]
Layout = Literal["reconstruction", "side_by_side"]
Size = Literal["model", "source"]
Quality = Literal["draft", "standard", "high"]
SoundTrackAction = Literal["copied", "transcoded", "dropped", "unknown"]

FRAME_WIDTH = 256
FRAME_HEIGHT = 144


def floats(values: Iterable[float], *, width: int | None = None) -> Floats:
    """Returns `values` as float32: [N], or [N / width, width] if a width is given.

    Without numpy it is an `array('f')`, or a list of them.
    """
    flat = array("f", values)
    try:
        import numpy as np
    except ImportError:
        if width is None:
            return flat  # type: ignore[return-value]  # without numpy its type does not exist
        rows = [flat[start : start + width] for start in range(0, len(flat), width)]
        return rows  # type: ignore[return-value]  # as above
    result = np.frombuffer(flat, dtype=np.float32)
    return result if width is None else result.reshape(-1, width)


@dataclass(frozen=True)
class ModelIdentity:
    """A model version. Passed as `model`, only exactly this version may answer."""

    name: str
    """The model's, for example "pca"."""
    version: int
    """From 1."""
    digest: str
    """ "sha256:" and 64 hexadecimal digits: names and numbers can be reused, digests cannot."""


@dataclass(frozen=True)
class Timing:
    """How long the service took to answer, in seconds."""

    queue: float
    """Waiting in the service for admission to the inference server."""
    compute: float
    """In the inference server: its queue, the transfer and the model."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """A frame's latent. Two are equal if their numbers and models are."""

    latent: Floats
    """[200] float32."""
    embedding: Floats | None
    """[200] float32 of unit length, for search; None if it was not requested."""
    model: ModelIdentity
    timing: Timing

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Encoding):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        first = ", ".join(f"{value:.4g}" for value in self.latent[:3])
        embedding = "" if self.embedding is None else ", with embedding"
        return f"Encoding([{first}, …]{embedding}, model={self.model!r}, timing={self.timing!r})"

    def _key(self) -> tuple[bytes, bytes | None, ModelIdentity]:
        embedding = None if self.embedding is None else bytes(self.embedding)
        return bytes(self.latent), embedding, self.model


@dataclass(frozen=True)
class Picture:
    """A decoded frame, 256 x 144. `numpy.asarray(picture)` gives a raw one's pixels."""

    data: bytes = field(repr=False)
    """Raw: RGB, interleaved, rows from the top; otherwise the image file's bytes."""
    format: ImageFormat
    model: ModelIdentity
    timing: Timing | None = field(compare=False)
    """None for a picture of an interpolation or a film."""
    time: float | None = None
    """Of a film's frame: its presentation time, in seconds from the film's first frame."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """[144, 256, 3] uint8, RGB, read-only.

        Raises:
            ValueError: The picture is an image file's bytes.
            ImportError: numpy is not installed.
        """
        if self.format != "raw":
            raise ValueError(f"this picture is a {self.format} file: ask for format='raw'")
        import numpy as np

        return np.frombuffer(self.data, np.uint8).reshape(FRAME_HEIGHT, FRAME_WIDTH, 3)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        import numpy as np

        # numpy < 2 does not support copy=None.
        return np.array(self.pixels, dtype) if copy else np.asarray(self.pixels, dtype)


@dataclass(frozen=True)
class SoundTrack:
    """One sound track of a film."""

    codec: str
    sample_rate: int
    """Samples a second."""
    channels: int
    language: str
    """ISO 639-2; empty if the film does not say."""


@dataclass(frozen=True)
class FilmFacts:
    """What a film is, as read from its container and first packets."""

    container: str
    """Short name, for example "mp4"."""
    video_codec: str
    width: int
    """Of the stored picture, in pixels."""
    height: int
    sample_aspect_ratio: Fraction
    """Width to height of one stored pixel."""
    rotation: int
    """Clockwise degrees for display: 0, 90, 180 or 270."""
    average_frame_rate: Fraction | None
    """Frames a second, for information: never compute a time from it."""
    time_base: Fraction
    """Seconds: the unit of every presentation time."""
    duration: float | None
    """Seconds, if the film says so."""
    estimated_frames: int | None
    """If the film says so."""
    interlaced: bool
    transfer: str
    """The transfer characteristic's name, for example "bt709"."""
    bit_depth: int
    """Bits a colour component."""
    sound_tracks: tuple[SoundTrack, ...]


@dataclass(frozen=True)
class OutputFacts:
    """What is made from a film."""

    model: ModelIdentity
    """The model version that reconstructs the film."""
    width: int
    """The picture's, in pixels."""
    height: int
    tone_mapped: bool
    """Whether the film's pictures are tone-mapped from HDR to SDR."""
    sound_track_actions: tuple[SoundTrackAction, ...]
    """What is done with each of `FilmFacts.sound_tracks`, in order."""


@dataclass(frozen=True)
class ReconstructionFacts:
    """What a film is, and what is made from it."""

    film: FilmFacts
    output: OutputFacts


@dataclass(frozen=True)
class Progress:
    """A reconstruction's progress."""

    bytes_sent: int
    """Film bytes that were handed to the connection."""
    bytes_total: int | None
    """The film's size, if known."""
    bytes_received: int
    """Film bytes that have arrived at the service."""
    frames_decoded: int
    """Frames read from the film."""
    frames_reconstructed: int
    """Frames that went through the model."""
    frames_written: int
    """Frames written to the reconstruction."""
    frames_total: int | None
    """The film's own estimate; None if it has none, or it has proven wrong."""
    position: float
    """Seconds: where in the film the last written frame lies."""
    fraction: float | None
    """From 0 to 1, by frames, else by position; None if the film says neither total."""
    frames_per_second: float | None
    """Over the last few seconds; None until it is known."""
    eta: float | None
    """Seconds left at that rate; None if unknown."""
    frames_reused: int = 0
    """Of the frames written, those that existed before this call."""
    mean_psnr_db: float | None = None
    """PSNR of the reconstruction so far, the mean over its frames in dB; None where
    the service does not measure it."""
    queue_position: int | None = None
    """The number of films ahead while this one waits to start; None when it does not wait."""


@dataclass(frozen=True, eq=False)
class LatentBatch:
    """The latents of consecutive frames."""

    pts: tuple[int, ...]
    """Presentation times in `FilmFacts.time_base`."""
    latents: Floats
    """[N, 200] float32; a list of `array('f')` where numpy is not installed."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LatentBatch):
            return NotImplemented
        return self.pts == other.pts and [bytes(row) for row in self.latents] == [
            bytes(row) for row in other.latents
        ]

    __hash__ = None  # type: ignore[assignment]  # how Python marks a class as unhashable

    def __repr__(self) -> str:
        return f"{type(self).__name__}(pts={self.pts!r}, latents=[{len(self.pts)}, 200])"


@dataclass(frozen=True)
class StageTimes:
    """Seconds that each stage of a reconstruction was busy, not waiting."""

    read: float
    encode: float
    decode: float
    write: float


@dataclass(frozen=True)
class Reconstruction:
    """The result of a reconstruction."""

    frames: int
    """As many as the film has."""
    duration: float
    """Seconds, from the first frame's presentation to the end of the last."""
    bytes_received: int
    """The film's."""
    bytes_sent: int
    """The reconstruction's."""
    film_digest: str
    """ "sha256:" and 64 hexadecimal digits over the film's bytes."""
    model: ModelIdentity
    stage_times: StageTimes
    warnings: tuple[str, ...]
    """What was repaired or left out, one sentence each; empty for an intact film."""
    film: FilmFacts
    output: OutputFacts
    film_name: str = ""
    """ "films/{film}" if the library has it, as the source or since this call."""
    rendition: str = ""
    """The rendition's name, if the library has it."""
    mean_psnr_db: float | None = None
    """PSNR of the reconstruction, the mean over its frames in dB; None where the
    service does not measure it."""


@dataclass(frozen=True)
class ModelVersion:
    """One training published under a model's name."""

    version: int
    digest: str
    recipe: str
    card: dict[str, Any] = field(repr=False)
    """The model card: films, metrics, git revision and more."""
    latent_size: int
    """How many numbers a latent has."""
    frame_width: int
    """The size of the frames that it encodes and decodes, in pixels."""
    frame_height: int


@dataclass(frozen=True)
class Model:
    """A model with its ready versions, by number."""

    name: str
    latest_version: int
    versions: tuple[ModelVersion, ...]
    is_default: bool
    """Whether calls that name no model use this one."""
