"""A picture process: decodes, scales and encodes single pictures, one request after the other."""

import ctypes
import io
import socket
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from film.errors import ImageError, ImageLimitError
from film.image import decode_image, encode_image
from film.letterbox import BarsFinder
from film.process.channel import Bounds, ChannelClosedError, ChildChannel, Message
from film.process.picture_protocol import ImageFormat, PictureFault, PictureKind
from film.quality import frame_detail
from film.read.scaling import to_model_frame
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH

_REQUEST_BOUNDS = Bounds(payload_bytes=1 << 31)
"""Requests come from the service, which enforces its own bounds."""
_BARS_SIDE = 1024

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 128 << 20
_KEPT_BLOCK_BYTES = 32 << 20
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def main(descriptors: Sequence[int]) -> None:
    """Answer requests on the one descriptor, a socket, until its other end is closed."""
    _keep_freed_memory()
    channel = ChildChannel(socket.socket(fileno=descriptors[0]))
    with suppress(ChannelClosedError):
        while True:
            _answer(channel, channel.receive(_REQUEST_BOUNDS))


def _keep_freed_memory() -> None:
    """Have malloc keep freed memory: fetching it for each picture doubles small ones' time."""
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # Not every C library has it.
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES)


def _answer(channel: ChildChannel, request: Message) -> None:
    if request.kind == PictureKind.WRITE:
        frames = np.frombuffer(request.payload, np.uint8)
        frames = frames.reshape(-1, MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3)
        files = [encode_image(frame, request.fields()["format"]) for frame in frames]
        channel.send(PictureKind.DONE, {"sizes": [len(file) for file in files]}, *files)
        return
    try:
        fields, frames = _read(request)
    except ImageLimitError as error:
        _refuse(channel, PictureFault.PIXELS, str(error))
    except ImageError as error:
        _refuse(channel, PictureFault.DAMAGED, str(error))
    except MemoryError:
        _refuse(channel, PictureFault.MEMORY, "")
    else:
        channel.send(PictureKind.DONE, fields, frames.data)


def _refuse(channel: ChildChannel, fault: PictureFault, message: str) -> None:
    channel.send(PictureKind.FAILED, {"error": fault, "message": message})


def _read(request: Message) -> tuple[dict[str, float], NDArray[np.uint8]]:
    fields = request.fields()
    if fields["width"]:
        picture = np.frombuffer(request.payload, np.uint8)
        picture = picture.reshape(fields["height"], fields["width"], 3)
    else:
        picture = decode_image(request.payload, max_pixels=fields["max_pixels"])
    try:
        frames = _surveyed(picture) if fields["survey"] else to_model_frame(picture)[np.newaxis]
    except ValueError:
        height, width, _ = picture.shape
        raise ImageError(f"a picture of {width} x {height} cannot be scaled") from None
    if not fields["survey"]:
        return {}, frames
    # Without its bars: in a black picture, their edges would be the only detail.
    return {"detail": float(frame_detail(frames[-1:])[0])}, frames


def _surveyed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture as a model frame and, if it has bars, again without them."""
    frames = [to_model_frame(picture)]
    height, width, _ = picture.shape
    # Large pictures are subsampled: a bar's edge need not be found to the pixel.
    step = -(-max(height, width) // _BARS_SIDE)
    finder = BarsFinder()
    finder.add((picture[::step, ::step] @ _LUMA).astype(np.uint8))
    bars = finder.find()
    if bars:
        top, bottom = step * bars.top, height - step * bars.bottom
        left, right = step * bars.left, width - step * bars.right
        frames.append(to_model_frame(picture[top:bottom, left:right]))
    return np.stack(frames)


def _warm_up() -> None:
    """Use everything once: what Pillow, PyAV and numpy load lazily is inaccessible later."""
    picture = np.zeros((72, 128, 3), np.uint8)
    picture[12:-12] = np.random.default_rng(0).integers(0, 255, (48, 128, 3), np.uint8)
    kinds: tuple[ImageFormat, ...] = ("png", "jpeg", "webp")
    for kind in kinds:
        _surveyed(decode_image(encode_image(picture, kind)))
        decode_image(_with_orientation(picture, kind))
    with suppress(ImageError):
        decode_image(b"neither")


def _with_orientation(picture: NDArray[np.uint8], kind: str) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, exif=exif)
    return file.getvalue()


_warm_up()
