"""Between the contract's messages and what tests compare."""

from collections.abc import Iterable

from refilm.v1 import autoencoder_pb2 as pb

LOOK = pb.RenditionSettings


def latent(values: Iterable[float], digest: str = "") -> pb.Latent:
    """Return a latent as floats, with its model's digest if given."""
    return pb.Latent(floats=pb.FloatLatent(values=values), model_digest=digest)


def numbers(latents: Iterable[pb.Latent]) -> list[float]:
    """Return the numbers of latents, one after the other."""
    return [value for one in latents for value in one.floats.values]


def selector(model: str = "-", version: int = 0, digest: str = "") -> pb.ModelSelector:
    """Return the selector of a model, or a version of it; "-" is the service's default."""
    name = f"models/{model}/versions/{version}" if version else f"models/{model}"
    return pb.ModelSelector(name=name, digest=digest)


def model_of(identity: pb.ModelIdentity) -> tuple[str, int]:
    """Return the model and the version that an answer names."""
    kind, model, versions, version = identity.name.split("/")
    assert (kind, versions) == ("models", "versions")
    return model, int(version)
