"""Converts pictures in requests to model frames, and model frames to pictures in responses.

Codecs and scalers run only in the picture processes; errors name the field.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from refilm.v1 import autoencoder_pb2 as pb

from film.errors import (
    ImageCrashedError,
    ImageError,
    ImageLimitError,
    PictureProcessesBusyError,
    PictureProcessLostError,
)
from film.process.picture_pool import PicturePool, Surveyed
from film.process.picture_protocol import ImageFormat
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from service import metrics
from service.errors import (
    DataLossError,
    FieldViolation,
    InvalidFieldError,
    LimitError,
    OverloadedError,
    ServerSideError,
    ServiceError,
    UnavailableError,
)

MAX_RAW_SIDE = 16_384
"""Largest width or height of a raw picture; the message size limits its bytes anyway."""

_MODEL_SIZE = (MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT)
_RETRY_SECONDS = 1.0


class Pictures:
    """Reads and writes pictures in messages; all methods raise `service.errors`."""

    def __init__(self, pool: PicturePool) -> None:
        self._pool = pool

    async def model_frame(self, frame: pb.Frame, field: str) -> NDArray[np.uint8]:
        """Return the model frame, [144, 256, 3], of a message's frame; `field` is its path."""
        picture, size, field = _content(frame, field)
        if size == _MODEL_SIZE:
            return np.frombuffer(picture, np.uint8).reshape(
                MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3
            )
        with _refusals(field):
            return await self._pool.read(picture, size)

    async def survey(self, frame: pb.Frame, field: str) -> Surveyed:
        """Return a message's frame prepared for a search; `field` is its path."""
        picture, size, field = _content(frame, field)
        with _refusals(field):
            return await self._pool.survey(picture, size)

    async def files(self, frames: NDArray[np.uint8], format: ImageFormat) -> list[bytes]:
        """Return model frames, [N, 144, 256, 3], as picture files."""
        with _refusals(None):
            return await self._pool.write(frames, format)

    async def messages(
        self, frames: NDArray[np.uint8], format: ImageFormat | None
    ) -> list[pb.Frame]:
        """Return model frames, [N, 144, 256, 3], as messages; without a format, as raw RGB."""
        if format is not None:
            return [pb.Frame(image=file) for file in await self.files(frames, format)]
        width, height = _MODEL_SIZE
        return [
            pb.Frame(raw=pb.RawImage(width=width, height=height, rgb=frame.tobytes()))
            for frame in frames
        ]


def _content(frame: pb.Frame, field: str) -> tuple[bytes, tuple[int, int] | None, str]:
    """Return a frame's bytes, its width and height if raw, and the bytes' field."""
    match frame.WhichOneof("content"):
        case "raw":
            field = f"{field}.raw"
            _check_raw(frame.raw, field)
            return frame.raw.rgb, (frame.raw.width, frame.raw.height), field
        case "image":
            return frame.image, None, f"{field}.image"
        case _:
            raise InvalidFieldError(
                field, "has no content; set raw or image", reason="FRAME_REQUIRED"
            )


def _check_raw(raw: pb.RawImage, field: str) -> None:
    for side, value in (("width", raw.width), ("height", raw.height)):
        if not 1 <= value <= MAX_RAW_SIDE:
            raise InvalidFieldError(
                f"{field}.{side}",
                f"is {value}; must be from 1 to {MAX_RAW_SIDE}",
                reason="INVALID_FRAME_SIZE",
            )
    expected = raw.width * raw.height * 3
    if len(raw.rgb) != expected:
        raise InvalidFieldError(
            f"{field}.rgb",
            f"has {len(raw.rgb)} bytes; a frame of {raw.width} x {raw.height} has "
            f"{raw.width} x {raw.height} x 3 = {expected}",
            reason="INVALID_FRAME_BYTES",
        )


@contextmanager
def _refusals(field: str | None) -> Iterator[None]:
    """Translate and count the picture pool's errors; `field` is None for a response."""
    try:
        yield
    except (ImageError, PictureProcessesBusyError, PictureProcessLostError) as error:
        refusal = _refusal(error, field)
        metrics.PICTURES_REFUSED.labels(refusal.reason).inc()
        raise refusal from None


def _refusal(error: Exception, field: str | None) -> ServiceError:
    if isinstance(error, PictureProcessesBusyError):
        return OverloadedError(
            f"{error}; try again",
            retry_after=_RETRY_SECONDS,
            metadata={"setting": "REFILM_MAX_PICTURES_WAITING"},
        )
    if isinstance(error, PictureProcessLostError):
        return UnavailableError(
            f"{error}; try again", reason="PICTURE_PROCESS_LOST", retry_after=_RETRY_SECONDS
        )
    if field is None or not isinstance(error, ImageError):
        return ServerSideError("the answer's pictures could not be made")
    message, violations = f"{field}: {error}", (FieldViolation(field, str(error)),)
    if isinstance(error, ImageLimitError):
        setting = f"REFILM_PICTURE_{error.limit.upper()}"
        return LimitError(
            f"{message}; {setting} is the limit",
            reason=error.reason,
            violations=violations,
            metadata={"setting": setting},
        )
    if isinstance(error, ImageCrashedError):
        return DataLossError(message, reason=error.reason, violations=violations)
    return InvalidFieldError(field, str(error), reason=error.reason)
