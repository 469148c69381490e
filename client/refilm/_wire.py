"""Between the values of this package and the contract's messages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from google.protobuf.json_format import MessageToDict

from refilm import _values as values
from refilm._names import model_name, model_parts
from refilm._times import seconds
from refilm.v1 import autoencoder_pb2 as pb

if TYPE_CHECKING:
    from typing import Literal, Protocol

    import numpy as np
    from numpy.typing import NDArray

    FrameSource = NDArray[np.uint8] | bytes | bytearray | memoryview | str | os.PathLike[str]
    """Pixels [H, W, 3] uint8 RGB, a JPEG, PNG or WebP file's bytes, or such a file's path."""
    LatentSource = values.Encoding | NDArray[np.floating[Any]] | Iterable[float]
    """An encoding, which knows its model, or 200 numbers."""

    class _Measured(Protocol):
        """A message of something whose quality may have been measured."""

        mean_psnr_db: float

        def HasField(self, field_name: Literal["mean_psnr_db"]) -> bool:
            """Tells whether it was."""


MAX_MESSAGE_BYTES = 32 * 1024 * 1024
# What the message holds beside the picture fits into this many times over.
_MAX_PICTURE_BYTES = MAX_MESSAGE_BYTES - 1024

_IMAGE_FORMATS: dict[str, pb.ImageFormat.ValueType] = {
    "raw": pb.IMAGE_FORMAT_RAW,
    "png": pb.IMAGE_FORMAT_PNG,
    "jpeg": pb.IMAGE_FORMAT_JPEG,
    "webp": pb.IMAGE_FORMAT_WEBP,
}
LAYOUTS: dict[str, pb.RenditionSettings.Layout.ValueType] = {
    "reconstruction": pb.RenditionSettings.LAYOUT_RECONSTRUCTION,
    "side_by_side": pb.RenditionSettings.LAYOUT_SIDE_BY_SIDE,
}
SIZES: dict[str, pb.RenditionSettings.PictureSize.ValueType] = {
    "model": pb.RenditionSettings.PICTURE_SIZE_MODEL,
    "source": pb.RenditionSettings.PICTURE_SIZE_SOURCE,
}
QUALITIES: dict[str, pb.RenditionSettings.Quality.ValueType] = {
    "draft": pb.RenditionSettings.QUALITY_DRAFT,
    "standard": pb.RenditionSettings.QUALITY_STANDARD,
    "high": pb.RenditionSettings.QUALITY_HIGH,
}
_ACTIONS: dict[int, values.SoundTrackAction] = {
    pb.SOUND_TRACK_ACTION_COPIED: "copied",
    pb.SOUND_TRACK_ACTION_TRANSCODED: "transcoded",
    pb.SOUND_TRACK_ACTION_DROPPED: "dropped",
}
_T = TypeVar("_T")


def choice(what: str, choices: dict[str, _T], name: str) -> _T:
    """Returns the message's enum name for a choice; raises ValueError for an unknown one."""
    if name not in choices:
        raise ValueError(f"{what} is one of {', '.join(choices)}, not {name!r}")
    return choices[name]


def selector(model: str | values.ModelIdentity, version: int) -> pb.ModelSelector:
    """Returns the message that chooses a model; raises ValueError for two versions at once."""
    if isinstance(model, values.ModelIdentity):
        named = model_name(model.name, model.version)
        return pb.ModelSelector(name=model_name(named, version), digest=model.digest)
    return pb.ModelSelector(name=model_name(model, version))


def image_format(name: str) -> pb.ImageFormat.ValueType:
    """Returns the message's enum name for an image format; raises ValueError for an unknown one."""
    return choice("format", _IMAGE_FORMATS, name)


def rendition_settings(
    *, layout: str, size: str, sound: bool, quality: str
) -> pb.RenditionSettings:
    """Returns the message of a rendition's settings; raises ValueError for an unknown choice."""
    return pb.RenditionSettings(
        layout=choice("layout", LAYOUTS, layout),
        picture_size=choice("size", SIZES, size),
        sound=pb.RenditionSettings.SOUND_KEEP if sound else pb.RenditionSettings.SOUND_NONE,
        quality=choice("quality", QUALITIES, quality),
    )


def store_settings(store: bool, title: str, film_id: str) -> pb.StoreSettings | None:
    """Returns how the library stores a film; raises ValueError if names are given without it."""
    if store:
        return pb.StoreSettings(title=title, film_id=film_id)
    if title or film_id:
        raise ValueError("title and film_id belong to store=True")
    return None


def frame_to_wire(frame: FrameSource) -> pb.Frame:
    """Returns the message of a picture, read from disk if a path is given.

    Raises:
        TypeError: It is neither pixels nor bytes nor a path, or its pixels are not uint8.
        ValueError: The pixels' shape is not [H, W, 3], or the message would be too large.
        OSError: The file cannot be read.
    """
    if isinstance(frame, (str, os.PathLike)):
        return _checked(pb.Frame(image=Path(frame).read_bytes()))
    try:
        view = memoryview(cast("bytes", frame))  # numpy types: buffers from Python 3.12 on
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
    # Checked here it costs nothing; the connection would send it again and again.
    size = frame.ByteSize()
    if size > _MAX_PICTURE_BYTES:
        raise ValueError(
            f"the frame takes {size / 2**20:.1f} MiB and a message holds "
            f"{MAX_MESSAGE_BYTES // 2**20} MiB: scale it down or send it as a JPEG file"
        )
    return frame


def latent_to_wire(latent: LatentSource) -> pb.Latent:
    """Returns the message of a latent; the service checks how many numbers it has.

    Raises:
        TypeError: They are not numbers in one dimension.
    """
    numbers, digest = latent, ""
    if isinstance(latent, values.Encoding):
        numbers, digest = latent.latent, latent.model.digest
    try:
        floats = [float(value) for value in cast("Iterable[float]", numbers)]
    except TypeError as error:
        raise TypeError("a latent is a sequence of 200 numbers, [200]") from error
    return pb.Latent(floats=pb.FloatLatent(values=floats), model_digest=digest)


def _numbers(latent: pb.Latent) -> Iterable[float]:
    """Returns a latent's numbers, also if each arrived as a byte."""
    if latent.WhichOneof("encoding") != "bytes":
        return latent.floats.values
    coded = latent.bytes.values
    ranges = latent.bytes.ranges
    if len(ranges) not in (1, len(coded)):
        raise ValueError(f"a latent of {len(coded)} bytes came with {len(ranges)} ranges")
    return [
        one.minimum + (one.maximum - one.minimum) * byte / 255
        for byte, one in zip(coded, list(ranges) * (len(coded) // len(ranges)), strict=True)
    ]


def latent_rows(latents: Iterable[pb.Latent]) -> values.Floats:
    """Returns latents as [N, 200]."""
    return _rows([_numbers(latent) for latent in latents])


def embedding_rows(embeddings: Iterable[pb.Embedding]) -> values.Floats | None:
    """Returns embeddings as [N, 200]; None if there are none."""
    rows = [embedding.values for embedding in embeddings]
    return _rows(rows) if rows else None


def _rows(rows: Sequence[Iterable[float]]) -> values.Floats:
    flat = [value for row in rows for value in row]
    return values.floats(flat, width=max(1, len(flat) // max(1, len(rows))))


def identity(message: pb.ModelIdentity) -> values.ModelIdentity:
    """Returns the model version that answered."""
    return values.ModelIdentity(*model_parts(message.name), message.digest)


def timing(message: pb.Timing) -> values.Timing:
    """Returns how long an answer took."""
    return values.Timing(seconds(message.queue), seconds(message.compute))


def encoding(message: pb.EncodeResponse | pb.EncodeStreamResponse) -> values.Encoding:
    """Returns a frame's latent."""
    return values.Encoding(
        latent=values.floats(_numbers(message.latent)),
        embedding=values.floats(message.embedding.values)
        if message.HasField("embedding")
        else None,
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
    """Returns what a film is."""
    return values.FilmFacts(
        container=message.container,
        video_codec=message.video_codec,
        width=message.width,
        height=message.height,
        sample_aspect_ratio=fraction(message.sample_aspect_ratio) or Fraction(1),
        rotation=message.rotation_degrees,
        average_frame_rate=fraction(message.average_frame_rate),
        time_base=fraction(message.time_base) or Fraction(1),
        duration=seconds(message.duration) if message.HasField("duration") else None,
        estimated_frames=message.estimated_frames or None,
        interlaced=message.interlaced,
        transfer=message.transfer,
        bit_depth=message.bit_depth,
        sound_tracks=tuple(
            values.SoundTrack(
                codec=track.codec,
                sample_rate=track.sample_rate_hz,
                channels=track.channels,
                language=track.language,
            )
            for track in message.sound_tracks
        ),
    )


def reconstruction_facts(message: pb.ReconstructionFacts) -> values.ReconstructionFacts:
    """Returns what a film is and what is made from it."""
    output = message.output
    return values.ReconstructionFacts(
        film=film_facts(message.film),
        output=values.OutputFacts(
            model=identity(output.model),
            width=output.width,
            height=output.height,
            tone_mapped=output.tone_mapped,
            sound_track_actions=tuple(
                _ACTIONS.get(action, "unknown") for action in output.sound_track_actions
            ),
        ),
    )


def latent_batch(message: pb.LatentBatch) -> values.LatentBatch:
    """Returns the latents of some frames."""
    return values.LatentBatch(pts=tuple(message.pts), latents=latent_rows(message.latents))


def psnr(message: _Measured) -> float | None:
    """Returns a reconstruction's PSNR in dB; None if it was not measured."""
    return message.mean_psnr_db if message.HasField("mean_psnr_db") else None


def reconstruction(
    message: pb.ReconstructionSummary, facts: values.ReconstructionFacts
) -> values.Reconstruction:
    """Returns the result of a reconstruction."""
    times = message.stage_times
    return values.Reconstruction(
        frames=message.frames,
        duration=seconds(message.duration),
        bytes_received=message.received_bytes,
        bytes_sent=message.sent_bytes,
        film_digest=message.film_digest,
        model=identity(message.model),
        stage_times=values.StageTimes(
            read=seconds(times.read),
            encode=seconds(times.encode),
            decode=seconds(times.decode),
            write=seconds(times.write),
        ),
        warnings=tuple(message.warnings),
        film=facts.film,
        output=facts.output,
        film_name=message.film,
        rendition=message.rendition,
        mean_psnr_db=psnr(message),
    )


def model(message: pb.Model) -> values.Model:
    """Returns a model with its versions."""
    return values.Model(
        name=model_parts(message.name)[0],
        latest_version=model_parts(message.latest_version)[1],
        versions=tuple(
            values.ModelVersion(
                version=model_parts(version.name)[1],
                digest=version.digest,
                recipe=version.recipe,
                card=MessageToDict(version.card),
                latent_size=version.latent_size,
                frame_width=version.frame_width,
                frame_height=version.frame_height,
            )
            for version in message.versions
        ),
        is_default=message.is_default,
    )
