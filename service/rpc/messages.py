"""Converts between protobuf messages and the service's own values; errors name the field."""

import math
import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from numpy.typing import NDArray
from refilm.v1 import autoencoder_pb2 as pb

from film.process.picture_protocol import ImageFormat
from service.errors import DigestMismatchError, InvalidFieldError
from service.inference import LATENT_SIZE, Model, Models, ModelVersion
from service.library.records import StoredModel
from service.rpc.durations import duration
from service.rpc.names import model_name, parse_version_name, version_name

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_IMAGE_FORMATS: dict[int, ImageFormat] = {
    pb.IMAGE_FORMAT_PNG: "png",
    pb.IMAGE_FORMAT_JPEG: "jpeg",
    pb.IMAGE_FORMAT_WEBP: "webp",
}


def resolve(models: Models, selector: pb.ModelSelector, field: str = "model") -> ModelVersion:
    """Return the model version that a selector selects; raises as `Models.resolve`.

    `field` is the selector's path in the request.
    """
    name, version = parse_version_name(selector.name, f"{field}.name")
    return models.resolve(name, version, selector.digest, field=field)


def is_empty(selector: pb.ModelSelector) -> bool:
    """Return whether a selector is empty, so that the service chooses the model."""
    return not selector.name and not selector.digest


def model_identity(model: ModelVersion | StoredModel) -> pb.ModelIdentity:
    """Return the identity of the model that made something; every response has it."""
    return pb.ModelIdentity(name=version_name(model.name, model.version), digest=model.digest)


def model_message(model: Model) -> pb.Model:
    """Return a model as a message, with its versions and their cards."""
    return pb.Model(
        name=model_name(model.name),
        latest_version=version_name(model.name, model.latest.version),
        versions=[_version_message(version) for version in model.versions],
        is_default=model.is_default,
    )


def _version_message(version: ModelVersion) -> pb.ModelVersion:
    card = Struct()
    ParseDict(dict(version.card), card)
    return pb.ModelVersion(
        name=version_name(version.name, version.version),
        digest=version.digest,
        recipe=version.recipe,
        card=card,
        latent_size=version.shape.latent_size,
        frame_width=version.shape.frame_width,
        frame_height=version.shape.frame_height,
    )


def timing(queue_seconds: float, compute_seconds: float) -> pb.Timing:
    """Return the time that a response took."""
    return pb.Timing(queue=duration(queue_seconds), compute=duration(compute_seconds))


def latent_message(values: NDArray[np.float32], digest: str = "") -> pb.Latent:
    """Return a latent [200] as a message; `digest` is its model's, or "" to leave it out."""
    return pb.Latent(floats=pb.FloatLatent(values=values.tolist()), model_digest=digest)


def embedding_message(values: NDArray[np.float32]) -> pb.Embedding:
    """Return an embedding [200] as a message."""
    return pb.Embedding(values=values.tolist())


def latent(message: pb.Latent, field: str) -> NDArray[np.float32]:
    """Return a message's latent [200]; raises InvalidFieldError saying what is wrong.

    `field` is the message's path in the request. Does not check which model made it.
    """
    match message.WhichOneof("encoding"):
        case "floats":
            return _finite(message.floats.values, f"{field}.floats.values")
        case "bytes":
            return _of_bytes(message.bytes, f"{field}.bytes")
        case _:
            raise InvalidFieldError(
                field, "has no numbers; set floats or bytes", reason="LATENT_REQUIRED"
            )


def _finite(values: Sequence[float], field: str) -> NDArray[np.float32]:
    _require_size(len(values), "floats", field)
    array = np.fromiter(values, np.float32, LATENT_SIZE)
    if not np.isfinite(array).all():
        place = int(np.flatnonzero(~np.isfinite(array))[0])
        kind = "NaN" if math.isnan(float(array[place])) else "infinite"
        raise InvalidFieldError(
            f"{field}[{place}]", f"is {kind}; must be finite", reason="LATENT_NOT_FINITE"
        )
    return array


def _of_bytes(message: pb.ByteLatent, field: str) -> NDArray[np.float32]:
    _require_size(len(message.values), "bytes", f"{field}.values")
    ranges = message.ranges
    if not ranges:
        raise InvalidFieldError(
            f"{field}.ranges",
            "are missing, and no model tells its own yet; give one for all numbers, or one each",
            reason="LATENT_RANGES_REQUIRED",
        )
    if len(ranges) not in (1, LATENT_SIZE):
        raise InvalidFieldError(
            f"{field}.ranges",
            f"are {len(ranges)}; must be one for all numbers, or {LATENT_SIZE}",
            reason="INVALID_LATENT_RANGES",
        )
    low, high = np.array([(one.minimum, one.maximum) for one in ranges], np.float64).T
    faulty = ~(np.isfinite(low) & np.isfinite(high) & (low <= high))
    if faulty.any():
        place = int(np.flatnonzero(faulty)[0])
        raise InvalidFieldError(
            f"{field}.ranges[{place}]",
            f"goes from {low[place]:g} to {high[place]:g}; both must be finite, in this order",
            reason="INVALID_LATENT_RANGES",
        )
    numbers = np.frombuffer(message.values, np.uint8).astype(np.float64)
    return np.asarray(low + (high - low) * numbers / 255, np.float32)


def _require_size(size: int, what: str, field: str) -> None:
    if size != LATENT_SIZE:
        raise InvalidFieldError(
            field, f"has {size} {what}; a latent has {LATENT_SIZE}", reason="INVALID_LATENT_SIZE"
        )


def resolve_for(
    models: Models, latent: pb.Latent, selector: pb.ModelSelector, *, field: str, latent_field: str
) -> ModelVersion:
    """Return the model version for a request with a latent: the latent's own, if it has one.

    `field` and `latent_field` are the paths of the selector and the latent in the request. Raises
    as `resolve`, and DigestMismatchError if the two are of different versions.
    """
    if latent.model_digest and is_empty(selector):
        digest = digest_of(latent.model_digest, f"{latent_field}.model_digest")
        return models.resolve(digest=digest, field=f"{latent_field}.model_digest")
    model = resolve(models, selector, field)
    require_model(latent, model, latent_field)
    return model


def require_model(latent: pb.Latent, model: ModelVersion, field: str) -> None:
    """Raise DigestMismatchError if a latent has another model's digest."""
    digest = latent.model_digest
    if digest and digest_of(digest, f"{field}.model_digest") != model.digest:
        raise DigestMismatchError(
            f"{field} is of the model {digest}, the request's model is {model.digest} "
            f'("{model.name}" version {model.version}); latents of different models do not meet',
            metadata={"latent_digest": digest, "requested_digest": model.digest},
        )


def digest_of(value: str, field: str) -> str:
    """Return a request's digest; raises InvalidFieldError if it is malformed."""
    if not _DIGEST.fullmatch(value):
        raise InvalidFieldError(
            field,
            'is no digest; expected "sha256:" and 64 hexadecimal digits in lower case',
            reason="INVALID_DIGEST",
        )
    return value


def image_format(value: int, field: str, default: ImageFormat | None = None) -> ImageFormat | None:
    """Return the format's name, None for raw; raises InvalidFieldError."""
    if value == pb.IMAGE_FORMAT_UNSPECIFIED:
        return default
    if value == pb.IMAGE_FORMAT_RAW:
        return None
    if value not in _IMAGE_FORMATS:
        raise InvalidFieldError(field, f"{value} is no ImageFormat", reason="INVALID_IMAGE_FORMAT")
    return _IMAGE_FORMATS[value]


def rational(value: Fraction) -> pb.Rational:
    """Return an exact fraction as a message."""
    return pb.Rational(numerator=value.numerator, denominator=value.denominator)
