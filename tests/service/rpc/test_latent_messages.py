"""Latents of requests: as floats, and in a byte each."""

from collections.abc import Sequence

import numpy as np
import pytest
from refilm.v1 import autoencoder_pb2 as pb

from service.errors import DigestMismatchError, InvalidFieldError
from service.inference import ModelVersion
from service.rpc.messages import embedding_message, latent, latent_message, require_model
from tests.support.messages import latent as floats

NUMBERS = np.arange(200, dtype=np.uint8)
MODEL = ModelVersion("pca", 1, "sha256:" + "0" * 64, "pca", {})


def coded(ranges: Sequence[tuple[float, float]], values: bytes = NUMBERS.tobytes()) -> pb.Latent:
    return pb.Latent(
        bytes=pb.ByteLatent(
            values=values,
            ranges=[pb.LatentRange(minimum=low, maximum=high) for low, high in ranges],
        )
    )


def test_what_goes_out_comes_in_again() -> None:
    values = np.random.default_rng(1).normal(0, 3, 200).astype(np.float32)
    message = latent_message(values, MODEL.digest)
    assert message.model_digest == MODEL.digest
    assert np.array_equal(latent(message, "latent"), values)
    assert np.array_equal(np.array(embedding_message(values).values, np.float32), values)


def test_bytes_are_what_they_stand_for() -> None:
    assert np.array_equal(latent(coded([(0, 255)]), "latent"), NUMBERS.astype(np.float32))
    found = latent(coded([(-1, 1)]), "latent")
    assert found.dtype == np.float32
    assert np.allclose(found, NUMBERS / 127.5 - 1, atol=1e-7)
    own = [(-number, number) for number in range(200)]
    expected = [(byte / 127.5 - 1) * number for number, byte in enumerate(NUMBERS.tolist())]
    assert np.allclose(latent(coded(own), "latent"), expected, atol=1e-5)
    # A range without extent: all numbers are the same.
    assert set(latent(coded([(0.5, 0.5)]), "latent").tolist()) == {0.5}


@pytest.mark.parametrize(
    ("message", "field", "reason"),
    [
        (pb.Latent(), "latent", "LATENT_REQUIRED"),
        (floats([0.0] * 199), "latent.floats.values", "INVALID_LATENT_SIZE"),
        (floats([0.0] * 199 + [np.inf]), "latent.floats.values[199]", "LATENT_NOT_FINITE"),
        (coded([(0, 1)], bytes(199)), "latent.bytes.values", "INVALID_LATENT_SIZE"),
        (coded([(0, 1)], bytes(201)), "latent.bytes.values", "INVALID_LATENT_SIZE"),
        (coded([]), "latent.bytes.ranges", "LATENT_RANGES_REQUIRED"),
        (coded([(0, 1)] * 2), "latent.bytes.ranges", "INVALID_LATENT_RANGES"),
        (coded([(0, 1)] * 9 + [(1, 0)] * 191), "latent.bytes.ranges[9]", "INVALID_LATENT_RANGES"),
        (coded([(0, float("nan"))]), "latent.bytes.ranges[0]", "INVALID_LATENT_RANGES"),
        (coded([(0, float("inf"))]), "latent.bytes.ranges[0]", "INVALID_LATENT_RANGES"),
    ],
)
def test_a_faulty_latent_is_refused_by_name(message: pb.Latent, field: str, reason: str) -> None:
    with pytest.raises(InvalidFieldError) as error:
        latent(message, "latent")
    assert ([one.field for one in error.value.violations], error.value.reason) == ([field], reason)


def test_a_latent_is_for_the_model_that_made_it() -> None:
    require_model(floats([]), MODEL, "latent")
    require_model(floats([], MODEL.digest), MODEL, "latent")
    with pytest.raises(DigestMismatchError) as error:
        require_model(floats([], "sha256:" + "1" * 64), MODEL, "latent")
    assert error.value.metadata["requested_digest"] == MODEL.digest
    with pytest.raises(InvalidFieldError, match=r"latent\.model_digest: is no digest"):
        require_model(floats([], "x"), MODEL, "latent")
