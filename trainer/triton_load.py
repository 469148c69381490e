"""Loads a published version into a running Triton, and checks that it is ready."""

import grpc
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from trainer.errors import PublishError
from trainer.triton_repository import DECODER, ENCODER

_LOAD_SECONDS = 300.0


def load(address: str, name: str, version: int) -> None:
    """Load a version into Triton, decoder first, and check that it is ready.

    Args:
        address: Triton's gRPC address, host:port; it must run with explicit model control and
            serve the repository that was published into.
        name: The model's name.
        version: The version that must be ready.

    Raises:
        PublishError: Triton cannot be reached, or does not load it; it still serves what it served
            before.
    """
    client = triton.InferenceServerClient(address)
    try:
        for model in (f"{name}_{DECODER}", f"{name}_{ENCODER}"):
            client.load_model(model, client_timeout=_LOAD_SECONDS)
            if not client.is_model_ready(model, str(version)):
                raise PublishError(
                    f"Triton at {address} loaded {model} without version {version}: does it read "
                    "another repository?"
                )
    except InferenceServerException as error:
        if error.status() == str(grpc.StatusCode.UNAVAILABLE):
            raise PublishError(f"No Triton answers at {address}") from error
        raise PublishError(f"Triton at {address} does not load it: {error.message()}") from error
    finally:
        client.close()
