"""Between the values of this package and the contract's messages."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from google.protobuf.json_format import MessageToDict

from refilm import _values as values
from refilm._times import seconds
from refilm.v1 import autoencoder_pb2 as pb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FrameSource = NDArray[np.uint8] | bytes | bytearray | memoryview | str | os.PathLike[str]
    """Pixels [H, W, 3] uint8 RGB, a JPEG, PNG or WebP file's bytes, or such a file's path."""
    LatentSource = NDArray[np.floating[Any]] | Iterable[float]
    """200 numbers."""

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
# What the message holds beside the picture fits into this many times over.
_MAX_PICTURE_BYTES = MAX_MESSAGE_BYTES - 1024

_IMAGE_FORMATS: dict[str, pb.ImageFormat.ValueType] = {
    "raw": pb.IMAGE_FORMAT_RAW,
    "png": pb.IMAGE_FORMAT_PNG,
    "jpeg": pb.IMAGE_FORMAT_JPEG,
    "webp": pb.IMAGE_FORMAT_WEBP,
}
LAYOUTS: dict[str, pb.Layout.ValueType] = {
    "reconstruction": pb.LAYOUT_RECONSTRUCTION,
    "side_by_side": pb.LAYOUT_SIDE_BY_SIDE,
}
SIZES: dict[str, pb.Size.ValueType] = {
    "model": pb.SIZE_MODEL,
    "source": pb.SIZE_SOURCE,
}
QUALITIES: dict[str, pb.Quality.ValueType] = {
    "draft": pb.QUALITY_DRAFT,
    "standard": pb.QUALITY_STANDARD,
    "high": pb.QUALITY_HIGH,
}
_T = TypeVar("_T")


def choice(what: str, choices: dict[str, _T], name: str) -> _T:
    """Returns the message's word for a choice; raises ValueError for an unknown one."""
    if name not in choices:
        raise ValueError(f"{what} is one of {', '.join(choices)}, not {name!r}")
    return choices[name]


def selector(model: str | values.ModelIdentity, version: int) -> pb.ModelSelector:
    """Returns the message that chooses a model; raises ValueError for two versions at once."""
    if isinstance(model, values.ModelIdentity):
        if version not in (0, model.version):
            raise ValueError(f"model says version {model.version}, version says {version}")
        return pb.ModelSelector(name=model.name, version=model.version, digest=model.digest)
    if version < 0:
        raise ValueError(f"versions count from 1 (0: the latest), not {version}")
    return pb.ModelSelector(name=model, version=version)


def image_format(name: str) -> pb.ImageFormat.ValueType:
    """Returns the message's word for an image format; raises ValueError for an unknown one."""
    return choice("format", _IMAGE_FORMATS, name)


def settings(
    model: pb.ModelSelector,
    *,
    layout: str,
    size: str,
    sound: bool,
    quality: str,
    latents: bool,
    film: str | None,
    film_bytes: int | None,
    store: bool,
    title: str,
    film_id: str,
) -> pb.ReconstructVideoSettings:
    """Returns a reconstruction's settings; raises ValueError for what contradicts itself."""
    if film is not None and store:
        raise ValueError(f"{film} is in the library already: store is for films of your own")
    if (title or film_id) and not store:
        raise ValueError("title and film_id belong to store=True")
    return pb.ReconstructVideoSettings(
        model=model,
        layout=choice("layout", LAYOUTS, layout),
        size=choice("size", SIZES, size),
        sound=pb.SOUND_KEEP if sound else pb.SOUND_NONE,
        quality=choice("quality", QUALITIES, quality),
        include_latents=latents,
        film_size_bytes=film_bytes or 0,
        film=film or "",
        store=store,
        title=title,
        film_id=film_id,
    )


def frame_to_wire(frame: FrameSource) -> pb.Frame:
    """Returns the message of a picture, read from disk where a path is given.

    Raises:
        TypeError: It is neither pixels nor bytes nor a path, or its pixels are not uint8.
        ValueError: The pixels' shape is not [H, W, 3], or the message would be too large.
        OSError: The file cannot be read.
    """
    if isinstance(frame, (str, os.PathLike)):
        return _checked(pb.Frame(image=Path(frame).read_bytes()))
    try:
        view = memoryview(cast("bytes", frame))  # numpy's types know of buffers from Python 3.12 on
    except TypeError as error:
        raise TypeError(
            "a frame is pixels [H, W, 3] uint8, an image file's bytes or its path, not "
            f"{type(frame).__name__}"
        ) from error
    if view.ndim == 1 and view.itemsize == 1:
        return _checked(pb.Frame(image=view.tobytes()))
    if view.format != "B":
        raise TypeError(f"a frame's pixels are uint8, not of the buffer format {view.format!r}")
    shape = view.shape or ()
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"a frame's pixels have the shape [H, W, 3], not {list(shape)}")
    height, width, _ = shape
    return _checked(pb.Frame(raw=pb.RawImage(width=width, height=height, rgb=view.tobytes())))


def _checked(frame: pb.Frame) -> pb.Frame:
    # Found here, it costs nothing; found by the connection, it would be sent again and again.
    size = frame.ByteSize()
    if size > _MAX_PICTURE_BYTES:
        raise ValueError(
            f"the frame takes {size / 2**20:.1f} MiB and a message holds "
            f"{MAX_MESSAGE_BYTES // 2**20} MiB: scale it down or send it as a JPEG file"
        )
    return frame


def latent_to_wire(latent: LatentSource) -> list[float]:
    """Returns a latent's numbers; how many they must be, the service says.

    Raises:
        TypeError: They are not numbers in one dimension.
    """
    try:
        return [float(value) for value in latent]
    except TypeError as error:
        raise TypeError("a latent is a sequence of 200 numbers, [200]") from error


def identity(message: pb.ModelIdentity) -> values.ModelIdentity:
    """Returns who answered."""
    return values.ModelIdentity(message.name, message.version, message.digest)


def timing(message: pb.Timing) -> values.Timing:
    """Returns how long an answer took."""
    return values.Timing(seconds(message.queue), seconds(message.compute))


def encoding(message: pb.EncodeResponse | pb.EncodeStreamResponse) -> values.Encoding:
    """Returns a frame's latent."""
    return values.Encoding(
        latent=values.floats(message.latent),
        embedding=values.floats(message.embedding) if message.embedding else None,
        model=identity(message.model),
        timing=timing(message.timing),
    )


def picture(
    message: pb.DecodeResponse | pb.DecodeStreamResponse, format: values.ImageFormat
) -> values.Picture:
    """Returns a decoded frame."""
    frame = message.frame
    return values.Picture(
        data=frame.raw.rgb if format == "raw" else frame.image,
        format=format,
        model=identity(message.model),
        timing=timing(message.timing),
    )


def fraction(message: pb.Rational) -> Fraction | None:
    """Returns a fraction; None for an unset one."""
    if not message.numerator or not message.denominator:
        return None
    return Fraction(message.numerator, message.denominator)


def film_facts(message: pb.FilmFacts) -> values.FilmFacts:
    """Returns what a film is and what will be made of it."""
    return values.FilmFacts(
        **_source_facts(message),
        model=identity(message.model),
        output_width=message.output_width,
        output_height=message.output_height,
    )


def source_facts(message: pb.FilmFacts) -> values.SourceFacts:
    """Returns what a film is."""
    return values.SourceFacts(**_source_facts(message))


def _source_facts(message: pb.FilmFacts) -> dict[str, Any]:
    return {
        "container": message.container,
        "video_codec": message.video_codec,
        "width": message.width,
        "height": message.height,
        "sample_aspect_ratio": fraction(message.sample_aspect_ratio) or Fraction(1),
        "rotation": message.rotation_degrees,
        "average_frame_rate": fraction(message.average_frame_rate),
        "time_base": fraction(message.time_base) or Fraction(1),
        "duration": seconds(message.duration) if message.HasField("duration") else None,
        "estimated_frames": message.estimated_frames or None,
        "interlaced": message.interlaced,
        "transfer": message.transfer,
        "tone_mapped": message.tone_mapped,
        "bit_depth": message.bit_depth,
        "sound_tracks": tuple(_sound_track(track) for track in message.sound_tracks),
    }


def _sound_track(message: pb.SoundTrack) -> values.SoundTrack:
    actions: dict[int, Any] = {
        pb.SOUND_TRACK_ACTION_COPIED: "copied",
        pb.SOUND_TRACK_ACTION_TRANSCODED: "transcoded",
        pb.SOUND_TRACK_ACTION_DROPPED: "dropped",
    }
    return values.SoundTrack(
        codec=message.codec,
        sample_rate=message.sample_rate_hz,
        channels=message.channels,
        language=message.language,
        action=actions.get(message.action, "unknown"),
    )


def latent_batch(message: pb.LatentBatch) -> values.LatentBatch:
    """Returns the latents of some frames."""
    width = len(message.values) // max(1, len(message.pts))
    return values.LatentBatch(
        pts=tuple(message.pts), latents=values.floats(message.values, width=max(1, width))
    )


def reconstruction(
    message: pb.ReconstructVideoSummary, film: values.FilmFacts
) -> values.Reconstruction:
    """Returns what became of a film."""
    times = message.stage_times
    return values.Reconstruction(
        frames=message.frames,
        duration=seconds(message.duration),
        bytes_received=message.bytes_received,
        bytes_sent=message.bytes_sent,
        film_digest=message.film_digest,
        model=identity(message.model),
        stage_times=values.StageTimes(
            read=seconds(times.read),
            encode=seconds(times.encode),
            decode=seconds(times.decode),
            write=seconds(times.write),
        ),
        warnings=tuple(message.warnings),
        film=film,
        film_name=message.film,
        rendition=message.rendition,
    )


def model(message: pb.Model) -> values.Model:
    """Returns a model with its versions."""
    return values.Model(
        name=message.name,
        latest_version=message.latest_version,
        versions=tuple(
            values.ModelVersion(
                version=version.version,
                digest=version.digest,
                recipe=version.recipe,
                card=MessageToDict(version.card),
            )
            for version in message.versions
        ),
        is_default=message.is_default,
    )
