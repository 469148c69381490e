"""The protocol between the service and a picture process.

The service sends one request at a time and the process answers it: READ turns a picture into model
frames, WRITE turns model frames into picture files.
"""

from enum import IntEnum
from typing import Literal, TypeAlias

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH

ImageFormat: TypeAlias = Literal["png", "jpeg", "webp"]
"""File formats that pictures are written in."""

PICTURE_MAIN = "film.process.picture_main"
"""The module that a picture process runs; it must be among the fork server's modules."""
WRITTEN_AT_ONCE = 8
"""Maximum frames per WRITE: a batch is spread over the processes."""
FRAME_BYTES = MODEL_FRAME_WIDTH * MODEL_FRAME_HEIGHT * 3


class PictureKind(IntEnum):
    """The type of a message."""

    DONE = 1
    """An answer. Of READ: model frames. Of WRITE: picture files, one after the other; `sizes`."""
    FAILED = 2
    """The other answer of READ: `error`, a PictureFault, and `message`."""

    READ = 10
    """A picture file or, where `width` is not 0, raw RGB of `width` x `height`. A file of more than
    `max_pixels` is refused. With `survey` the answer has the picture once more without its bars,
    where it has some, and the last frame's `detail`."""
    WRITE = 11
    """Model frames, to be written in `format`."""


class PictureFault(IntEnum):
    """Why a picture cannot be read."""

    DAMAGED = 1
    PIXELS = 2
    MEMORY = 3
