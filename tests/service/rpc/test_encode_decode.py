"""Encode and Decode through the real service and the real Triton."""

import io
from typing import Any, cast

import grpc
import numpy as np
import pytest
import torch
from google.protobuf.json_format import MessageToDict
from numpy.typing import NDArray
from PIL import Image
from refilm.v1 import autoencoder_pb2 as pb

from film.image import decode_image
from film.read.scaling import to_model_frame
from tests.support.messages import latent as latent_message
from tests.support.messages import model_of, selector
from tests.support.service_process import ServiceProcess
from tests.support.status import error_of
from trainer.export import load_torchscript

RAW = pb.IMAGE_FORMAT_RAW


def picture(seed: int = 0, height: int = 144, width: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def raw(frame: NDArray[np.uint8]) -> pb.Frame:
    height, width, _ = frame.shape
    return pb.Frame(raw=pb.RawImage(width=width, height=height, rgb=frame.tobytes()))


def file_of(frame: NDArray[np.uint8], form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, form)
    return buffer.getvalue()


def pixels(frame: pb.Frame) -> NDArray[np.uint8]:
    return np.frombuffer(frame.raw.rgb, np.uint8).reshape(frame.raw.height, frame.raw.width, 3)


@pytest.fixture
def encoder(model_repository):
    return load_torchscript(model_repository / "pca_encoder/2/model.pt")


@pytest.fixture
def decoder(model_repository):
    return load_torchscript(model_repository / "pca_decoder/2/model.pt")


def test_encode_equals_the_module_bit_for_bit(service: ServiceProcess, encoder) -> None:
    for seed in range(5):
        frame = picture(seed)
        answer = service.stub.Encode(pb.EncodeRequest(frame=raw(frame), include_embedding=True))
        with torch.inference_mode():
            latents, embeddings = encoder(torch.from_numpy(frame[np.newaxis]))
        assert np.array_equal(np.array(answer.latent.floats.values, np.float32), latents[0].numpy())
        assert np.array_equal(np.array(answer.embedding.values, np.float32), embeddings[0].numpy())


def test_decode_equals_the_module_within_a_grey_level(service: ServiceProcess, decoder) -> None:
    latent = np.random.default_rng(0).normal(0, 2, 200).astype(np.float32)
    answer = service.stub.Decode(pb.DecodeRequest(latent=latent_message(latent)))
    with torch.inference_mode():
        expected = decoder(torch.from_numpy(latent[np.newaxis]))[0][0].numpy()
    found = pixels(answer.frame)
    assert found.shape == (144, 256, 3)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_an_answer_names_its_model_and_says_how_long_it_took(service: ServiceProcess) -> None:
    answer = service.stub.Encode(pb.EncodeRequest(frame=raw(picture())))
    listed = service.stub.GetModel(pb.GetModelRequest(name="models/pca")).model.versions[-1]
    assert model_of(answer.model) == ("pca", 2)
    assert answer.model.digest == listed.digest
    assert answer.model.digest.startswith("sha256:") and len(answer.model.digest) == 71
    assert answer.timing.compute.ToMicroseconds() > 0
    assert not answer.HasField("embedding")
    assert answer.latent.model_digest == answer.model.digest


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_an_image_file_of_any_size_is_scaled_as_the_trainer_scales(
    service: ServiceProcess, form: str
) -> None:
    data = file_of(picture(3, 300, 401), form)
    by_file = service.stub.Encode(pb.EncodeRequest(frame=pb.Frame(image=data)))
    scaled = raw(to_model_frame(decode_image(data)))
    by_frame = service.stub.Encode(pb.EncodeRequest(frame=scaled))
    assert by_file.latent == by_frame.latent


def test_a_raw_frame_of_any_size_is_scaled(service: ServiceProcess) -> None:
    frame = picture(4, 1081, 1923)
    large = service.stub.Encode(pb.EncodeRequest(frame=raw(frame)))
    small = service.stub.Encode(pb.EncodeRequest(frame=raw(to_model_frame(frame))))
    assert large.latent == small.latent


def test_decode_returns_the_format_asked_for(service: ServiceProcess) -> None:
    latent = [0.5] * 200
    plain = pixels(
        service.stub.Decode(pb.DecodeRequest(latent=latent_message(latent), format=RAW)).frame
    )
    for form, name, tolerance in (
        (pb.IMAGE_FORMAT_PNG, "PNG", 0),
        (pb.IMAGE_FORMAT_JPEG, "JPEG", 5),
        (pb.IMAGE_FORMAT_WEBP, "WEBP", 5),
    ):
        frame = service.stub.Decode(
            pb.DecodeRequest(latent=latent_message(latent), format=form)
        ).frame
        image = Image.open(io.BytesIO(frame.image))
        assert image.format == name
        difference = np.asarray(image.convert("RGB")).astype(int) - plain.astype(int)
        assert np.abs(difference).mean() <= tolerance


VALID = raw(picture())

FAULTY_ENCODES = {
    "no frame": (pb.EncodeRequest(), "frame", "FRAME_REQUIRED"),
    "no content": (pb.EncodeRequest(frame=pb.Frame()), "frame", "FRAME_REQUIRED"),
    "zero width": (
        pb.EncodeRequest(frame=pb.Frame(raw=pb.RawImage(width=0, height=5))),
        "frame.raw.width",
        "INVALID_FRAME_SIZE",
    ),
    "zero height": (
        pb.EncodeRequest(frame=pb.Frame(raw=pb.RawImage(width=5, height=0))),
        "frame.raw.height",
        "INVALID_FRAME_SIZE",
    ),
    "absurd size": (
        pb.EncodeRequest(frame=pb.Frame(raw=pb.RawImage(width=2**32 - 1, height=2**32 - 1))),
        "frame.raw.width",
        "INVALID_FRAME_SIZE",
    ),
    "too few bytes": (
        pb.EncodeRequest(frame=pb.Frame(raw=pb.RawImage(width=2, height=2, rgb=bytes(11)))),
        "frame.raw.rgb",
        "INVALID_FRAME_BYTES",
    ),
    "too many bytes": (
        pb.EncodeRequest(frame=pb.Frame(raw=pb.RawImage(width=2, height=2, rgb=bytes(13)))),
        "frame.raw.rgb",
        "INVALID_FRAME_BYTES",
    ),
    "no image": (pb.EncodeRequest(frame=pb.Frame(image=b"")), "frame.image", "INVALID_IMAGE"),
    "not an image": (
        pb.EncodeRequest(frame=pb.Frame(image=b"not an image")),
        "frame.image",
        "INVALID_IMAGE",
    ),
    "cut off image": (
        pb.EncodeRequest(frame=pb.Frame(image=file_of(picture(), "PNG")[:5000])),
        "frame.image",
        "INVALID_IMAGE",
    ),
}


@pytest.mark.parametrize("case", FAULTY_ENCODES)
def test_a_faulty_frame_is_refused_by_name(service: ServiceProcess, case: str) -> None:
    request, field, reason = FAULTY_ENCODES[case]
    error = error_of(lambda: service.stub.Encode(request))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.fields, error.reason) == ([field], reason)


@pytest.mark.parametrize(
    ("latent", "field", "reason"),
    [
        ([], "latent.floats.values", "INVALID_LATENT_SIZE"),
        ([0.0] * 199, "latent.floats.values", "INVALID_LATENT_SIZE"),
        ([0.0] * 201, "latent.floats.values", "INVALID_LATENT_SIZE"),
        ([0.0] * 7 + [float("nan")] + [0.0] * 192, "latent.floats.values[7]", "LATENT_NOT_FINITE"),
        ([float("-inf")] + [0.0] * 199, "latent.floats.values[0]", "LATENT_NOT_FINITE"),
    ],
)
def test_a_faulty_latent_is_refused_by_name(
    service: ServiceProcess, latent: list[float], field: str, reason: str
) -> None:
    error = error_of(lambda: service.stub.Decode(pb.DecodeRequest(latent=latent_message(latent))))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.fields, error.reason) == ([field], reason)


def test_an_unknown_image_format_is_refused(service: ServiceProcess) -> None:
    request = pb.DecodeRequest(latent=latent_message([0.0] * 200), format=cast(Any, 99))
    error = error_of(lambda: service.stub.Decode(request))
    assert (error.code, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["format"])


def test_a_message_too_large_is_refused_and_the_next_is_served(service: ServiceProcess) -> None:
    large = pb.EncodeRequest(frame=pb.Frame(image=bytes(33 * 1024 * 1024)))
    error = error_of(lambda: service.stub.Encode(large))
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "33554432" in error.message
    assert len(service.stub.Encode(pb.EncodeRequest(frame=VALID)).latent.floats.values) == 200


SELECTORS = {
    "unknown name": (selector("nope"), "NOT_FOUND", "MODEL_NOT_FOUND", "models/nope"),
    "unknown version": (
        selector("pca", 9),
        "NOT_FOUND",
        "MODEL_VERSION_NOT_FOUND",
        "models/pca/versions/9",
    ),
    "unknown digest": (
        pb.ModelSelector(digest="sha256:00"),
        "NOT_FOUND",
        "MODEL_DIGEST_NOT_FOUND",
        "sha256:00",
    ),
    "another version's digest": (
        selector("pca", 1, "sha256:00"),
        "FAILED_PRECONDITION",
        "MODEL_DIGEST_MISMATCH",
        "models/pca/versions/1",
    ),
}


@pytest.mark.parametrize("case", SELECTORS)
def test_a_model_that_is_not_there_is_named(service: ServiceProcess, case: str) -> None:
    chosen, code, reason, resource = SELECTORS[case]
    error = error_of(lambda: service.stub.Encode(pb.EncodeRequest(frame=VALID, model=chosen)))
    assert (error.code.name, error.reason) == (code, reason)
    assert error.resource == ("model", resource)


def test_an_older_version_answers_by_number_and_by_digest(service: ServiceProcess) -> None:
    first = service.stub.GetModel(pb.GetModelRequest(name="models/pca")).model.versions[0]
    for chosen in (
        selector(version=1),
        selector("pca", 1, first.digest),
        selector("pca", digest=first.digest),
        pb.ModelSelector(digest=first.digest),
    ):
        answer = service.stub.Encode(pb.EncodeRequest(frame=VALID, model=chosen))
        assert (model_of(answer.model), answer.model.digest) == (("pca", 1), first.digest)


def test_a_model_lists_its_versions_with_their_cards(service: ServiceProcess) -> None:
    (model,) = service.stub.ListModels(pb.ListModelsRequest()).models
    names = ["models/pca/versions/1", "models/pca/versions/2"]
    assert (model.name, model.latest_version, model.is_default) == ("models/pca", names[1], True)
    assert [version.name for version in model.versions] == names
    for version in model.versions:
        assert (version.latent_size, version.frame_width, version.frame_height) == (200, 256, 144)
    card = MessageToDict(model.versions[1].card)
    assert (card["name"], card["version"], card["metrics"]) == ("pca", 2.0, {"psnr": 22.0})
    assert card["digest"] == model.versions[1].digest
    assert model == service.stub.GetModel(pb.GetModelRequest(name="models/pca")).model


def test_listing_and_getting_refuse_what_is_wrong(service: ServiceProcess) -> None:
    for call, code, field in (
        (lambda: service.stub.ListModels(pb.ListModelsRequest(page_size=-1)), 3, "page_size"),
        (lambda: service.stub.ListModels(pb.ListModelsRequest(page_token="x")), 3, "page_token"),
        (lambda: service.stub.GetModel(pb.GetModelRequest()), 3, "name"),
    ):
        error = error_of(call)
        assert (error.code.value[0], error.fields) == (code, [field])
    error = error_of(lambda: service.stub.GetModel(pb.GetModelRequest(name="models/nope")))
    assert error.code is grpc.StatusCode.NOT_FOUND
    assert "pca" in error.message
