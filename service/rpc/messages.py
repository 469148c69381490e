"""Between protobuf messages and the service's own values; faults name the field."""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from fractions import Fraction
from typing import TypeVar

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from numpy.typing import NDArray
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import library_pb2

from film.facts import FilmFacts, SoundAction
from film.output import Layout, OutputSettings, Quality, Size
from film.process.picture_protocol import ImageFormat
from service.errors import InvalidFieldError
from service.inference import LATENT_SIZE, Model, Models, ModelVersion

_IMAGE_FORMATS: dict[int, ImageFormat] = {
    pb.IMAGE_FORMAT_PNG: "png",
    pb.IMAGE_FORMAT_JPEG: "jpeg",
    pb.IMAGE_FORMAT_WEBP: "webp",
}
_NANOSECONDS = 10**9
_ACTIONS = {
    SoundAction.COPY: pb.SOUND_TRACK_ACTION_COPIED,
    SoundAction.TRANSCODE: pb.SOUND_TRACK_ACTION_TRANSCODED,
    SoundAction.DROP: pb.SOUND_TRACK_ACTION_DROPPED,
}
_LAYOUTS = {
    pb.LAYOUT_UNSPECIFIED: Layout.RECONSTRUCTION,
    pb.LAYOUT_RECONSTRUCTION: Layout.RECONSTRUCTION,
    pb.LAYOUT_SIDE_BY_SIDE: Layout.SIDE_BY_SIDE,
}
_SIZES = {
    pb.SIZE_UNSPECIFIED: Size.MODEL,
    pb.SIZE_MODEL: Size.MODEL,
    pb.SIZE_SOURCE: Size.SOURCE,
}
_SOUNDS = {pb.SOUND_UNSPECIFIED: True, pb.SOUND_KEEP: True, pb.SOUND_NONE: False}
_QUALITIES = {
    pb.QUALITY_UNSPECIFIED: Quality.STANDARD,
    pb.QUALITY_DRAFT: Quality.DRAFT,
    pb.QUALITY_STANDARD: Quality.STANDARD,
    pb.QUALITY_HIGH: Quality.HIGH,
}

Number = TypeVar("Number", bound=int)
Chosen = TypeVar("Chosen", bool, Layout, Size, Quality)


def resolve(models: Models, selector: pb.ModelSelector, field: str = "model") -> ModelVersion:
    """Return the model version that a selector means; raises as `Models.resolve`.

    `field` is the selector's path in the request.
    """
    return models.resolve(selector.name, selector.version, selector.digest, field=field)


def model_identity(model: ModelVersion) -> pb.ModelIdentity:
    """Return the identity that every response carries."""
    return pb.ModelIdentity(name=model.name, version=model.version, digest=model.digest)


def model_message(model: Model) -> pb.Model:
    """Return a model with its versions and their cards."""
    return pb.Model(
        name=model.name,
        latest_version=model.latest.version,
        versions=[_version_message(version) for version in model.versions],
        is_default=model.is_default,
    )


def _version_message(version: ModelVersion) -> pb.ModelVersion:
    card = Struct()
    ParseDict(dict(version.card), card)
    return pb.ModelVersion(
        version=version.version, digest=version.digest, recipe=version.recipe, card=card
    )


def timing(queue_seconds: float, compute_seconds: float) -> pb.Timing:
    """Return how long an answer took."""
    return pb.Timing(queue=duration(queue_seconds), compute=duration(compute_seconds))


def duration(seconds: float) -> Duration:
    """Return a protobuf duration, to the microsecond."""
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def exact_duration(seconds: Fraction) -> Duration:
    """Return a protobuf duration, to the nanosecond; times of films are exact fractions."""
    whole, rest = divmod(round(seconds * _NANOSECONDS), _NANOSECONDS)
    return Duration(seconds=whole, nanos=rest)


def seconds_of(duration: Duration, field: str) -> Fraction:
    """Return a duration in seconds, exactly, negative or not.

    `field` is its path in the request. Raises InvalidFieldError where it is no valid duration.
    """
    seconds, nanos = duration.seconds, duration.nanos
    if abs(nanos) >= 10**9 or seconds * nanos < 0:
        raise InvalidFieldError(
            field,
            f"is no duration: {seconds} s and {nanos} ns; the nanoseconds must be less than a "
            "second and of the seconds' sign",
            reason="INVALID_DURATION",
        )
    return seconds + Fraction(nanos, 10**9)


def latent(values: Sequence[float], field: str) -> NDArray[np.float32]:
    """Return a latent [200] of a message's floats; raises InvalidFieldError naming the fault."""
    if len(values) != LATENT_SIZE:
        raise InvalidFieldError(
            field,
            f"has {len(values)} floats; a latent has {LATENT_SIZE}",
            reason="INVALID_LATENT_SIZE",
        )
    array = np.fromiter(values, np.float32, LATENT_SIZE)
    if not np.isfinite(array).all():
        place = int(np.flatnonzero(~np.isfinite(array))[0])
        kind = "NaN" if math.isnan(float(array[place])) else "infinite"
        raise InvalidFieldError(
            f"{field}[{place}]", f"is {kind}; must be finite", reason="LATENT_NOT_FINITE"
        )
    return array


def image_format(value: int, field: str) -> ImageFormat | None:
    """Return the format's name, None for raw; raises InvalidFieldError."""
    if value in (pb.IMAGE_FORMAT_UNSPECIFIED, pb.IMAGE_FORMAT_RAW):
        return None
    if value not in _IMAGE_FORMATS:
        raise InvalidFieldError(field, f"{value} is no ImageFormat", reason="INVALID_IMAGE_FORMAT")
    return _IMAGE_FORMATS[value]


def facts_message(facts: FilmFacts) -> pb.FilmFacts:
    """Return a film's facts; those about an output are not set."""
    return pb.FilmFacts(
        container=facts.container,
        video_codec=facts.video_codec,
        width=facts.width,
        height=facts.height,
        sample_aspect_ratio=_rational(facts.sample_aspect_ratio),
        rotation_degrees=facts.rotation,
        average_frame_rate=_rational(facts.average_frame_rate or Fraction(0)),
        time_base=_rational(facts.time_base),
        duration=None if facts.duration is None else exact_duration(facts.duration),
        estimated_frames=facts.estimated_frames or 0,
        interlaced=facts.interlaced,
        transfer=facts.transfer,
        tone_mapped=facts.tone_mapped,
        bit_depth=facts.bit_depth,
        sound_tracks=[
            pb.SoundTrack(
                codec=track.codec,
                sample_rate_hz=track.sample_rate,
                channels=track.channels,
                language=track.language,
                action=_ACTIONS[track.action],
            )
            for track in facts.sound_tracks
        ],
    )


def _rational(value: Fraction) -> pb.Rational:
    return pb.Rational(numerator=value.numerator, denominator=value.denominator)


def output_settings(
    settings: pb.ReconstructVideoSettings | library_pb2.RenditionSettings, field: str = "settings"
) -> OutputSettings:
    """Return what a request asks for; `field` is its path in it. Raises InvalidFieldError."""
    return OutputSettings(
        layout=_choice(_LAYOUTS, settings.layout, f"{field}.layout", "Layout"),
        size=_choice(_SIZES, settings.size, f"{field}.size", "Size"),
        sound=_choice(_SOUNDS, settings.sound, f"{field}.sound", "Sound"),
        quality=_choice(_QUALITIES, settings.quality, f"{field}.quality", "Quality"),
    )


def _choice(choices: Mapping[Number, Chosen], value: Number, field: str, enum: str) -> Chosen:
    if value not in choices:
        raise InvalidFieldError(field, f"{value} is no {enum}", reason="INVALID_SETTING")
    return choices[value]
