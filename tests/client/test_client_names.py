"""Names of models as callers write them, and as they go over the wire."""

import pytest
import refilm
from refilm._names import model_name, model_parts
from refilm._wire import identity, latent_rows, selector
from refilm.v1 import autoencoder_pb2 as pb


@pytest.mark.parametrize(
    ("model", "version", "name"),
    [
        ("", 0, ""),
        ("", 3, "models/-/versions/3"),
        ("pca", 0, "models/pca"),
        ("pca", 3, "models/pca/versions/3"),
        ("models/pca", 0, "models/pca"),
        ("models/pca", 3, "models/pca/versions/3"),
        ("models/pca/versions/3", 0, "models/pca/versions/3"),
        ("models/pca/versions/3", 3, "models/pca/versions/3"),
    ],
)
def test_a_model_is_named_by_its_id_or_by_its_name(model: str, version: int, name: str) -> None:
    assert model_name(model, version) == name
    assert selector(model, version) == pb.ModelSelector(name=name)
    if name and "-" not in name:
        assert model_parts(name) == ("pca", 3 if name.endswith("3") else 0)


def test_two_versions_contradict() -> None:
    with pytest.raises(ValueError, match="model says version 3, version says 4"):
        model_name("models/pca/versions/3", 4)
    with pytest.raises(ValueError, match="versions count from 1"):
        model_name("pca", -1)


def test_who_answered_can_be_asked_for_again() -> None:
    message = pb.ModelIdentity(name="models/pca/versions/3", digest="sha256:0")
    made_by = identity(message)
    assert made_by == refilm.ModelIdentity("pca", 3, "sha256:0")
    assert selector(made_by, 0) == pb.ModelSelector(name=message.name, digest=message.digest)
    # Of a file, that tells no more than the digest.
    alone = refilm.ModelIdentity("", 0, "sha256:0")
    assert selector(alone, 0) == pb.ModelSelector(digest="sha256:0")


def test_latents_that_come_as_bytes_are_read_as_numbers() -> None:
    one = pb.Latent(
        bytes=pb.ByteLatent(
            values=bytes([0, 255, 51]), ranges=[pb.LatentRange(minimum=-1, maximum=1)]
        )
    )
    other = pb.Latent(floats=pb.FloatLatent(values=[1, 2, 3]))
    rows = latent_rows([one, other])
    assert [round(float(value), 6) for value in rows[0]] == [-1, 1, -0.6]
    assert [float(value) for value in rows[1]] == [1, 2, 3]
    odd = pb.Latent(bytes=pb.ByteLatent(values=bytes(3)))
    with pytest.raises(ValueError, match="3 bytes came with 0 ranges"):
        latent_rows([odd])
