"""GetFrame: one frame of a film as a model remembers it."""

import io
from fractions import Fraction
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image
from refilm.v1 import autoencoder_pb2 as auto
from refilm.v1 import library_pb2 as pb
from refilm.v1 import library_pb2_grpc

from service.library import layout
from tests.support.latents_library import Library
from tests.support.messages import latent, model_of, selector
from tests.support.status import error_of
from tests.support.stored_latents import random_rows

ROWS = random_rows(60)
NAME = "films/frames/latents/{}"


@pytest.fixture(scope="module")
def name(library: Library) -> str:
    """The name of latents by the second version of two."""
    library.film("frames", library.models[2], ROWS)
    return NAME.format(layout.hexadecimal(library.models[2].digest))


def get(library: Library, name: str, seconds: Fraction, **fields: Any) -> pb.GetFrameResponse:
    time = Duration()
    time.FromNanoseconds(round(seconds * 10**9))
    stub = library_pb2_grpc.LibraryServiceStub(library.service.channel)
    return stub.GetFrame(pb.GetFrameRequest(name=name, time=time, **fields), timeout=60)


@pytest.mark.parametrize("row", [0, 1, 17, 59])
def test_the_frame_is_the_one_that_is_shown_then(library: Library, name: str, row: int) -> None:
    begins = ROWS.seconds[row]
    for seconds in (begins, begins + Fraction(1, 1000)):
        answer = get(library, name, seconds, format=auto.IMAGE_FORMAT_RAW)
        assert answer.time.ToNanoseconds() == round(begins * 10**9)
        assert model_of(answer.model) == ("pca", 2)
        decoded = library.service.stub.Decode(
            auto.DecodeRequest(latent=latent(ROWS.latents[row]), model=selector("pca", 2))
        )
        assert answer.frame == decoded.frame


def test_unasked_it_is_a_jpeg(library: Library, name: str) -> None:
    picture = Image.open(io.BytesIO(get(library, name, Fraction(0)).frame.image))
    assert (picture.format, picture.size) == ("JPEG", (256, 144))
    png = get(library, name, Fraction(0), format=auto.IMAGE_FORMAT_PNG).frame
    raw = get(library, name, Fraction(0), format=auto.IMAGE_FORMAT_RAW).frame
    pixels = np.frombuffer(raw.raw.rgb, np.uint8).reshape(144, 256, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png.image))), pixels)


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"name": ""}, "INVALID_ARGUMENT", "NAME_REQUIRED"),
        ({"name": "films/frames/latents/x"}, "INVALID_ARGUMENT", "INVALID_NAME"),
        ({"name": "films/frames"}, "UNIMPLEMENTED", "SOURCE_FRAMES_UNSUPPORTED"),
        ({"name": NAME.format("0" * 64)}, "NOT_FOUND", "LATENTS_NOT_FOUND"),
        (
            {"name": f"films/frames/renditions/{'0' * 64}-{'0' * 16}"},
            "NOT_FOUND",
            "RENDITION_NOT_FOUND",
        ),
        ({"name": f"films/nowhere/latents/{'0' * 64}"}, "NOT_FOUND", "FILM_NOT_FOUND"),
        ({"seconds": Fraction(3600)}, "OUT_OF_RANGE", "TIME_OUT_OF_RANGE"),
        ({"seconds": Fraction(-1)}, "OUT_OF_RANGE", "TIME_OUT_OF_RANGE"),
        ({"format": 99}, "INVALID_ARGUMENT", "INVALID_IMAGE_FORMAT"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    library: Library, name: str, fields: dict[str, object], code: str, reason: str
) -> None:
    asked: dict[str, Any] = {"name": name, "seconds": Fraction(0), **fields}
    error = error_of(lambda: get(library, **asked))
    assert (error.code, error.reason) == (getattr(grpc.StatusCode, code), reason)
