"""What tests of all packages share: small published models, and one running service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.object_stores import (  # noqa: F401 - fixtures
    bucket_store,
    folder_store,
    library_store,
    object_store,
    own_s3_server,
    s3_server,
)
from tests.support.processes import (  # noqa: F401 - hooks
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtest_call,
    pytest_runtest_setup,
)
from tests.support.service_process import ServiceProcess


@pytest.fixture(scope="session")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with two versions of the model "pca", published by the trainer."""
    from tests.support.models import TinyDecoder, TinyEncoder
    from trainer.publish import publish

    repository = tmp_path_factory.mktemp("models")
    for seed in (1, 2):
        publish(
            TinyEncoder(seed),
            TinyDecoder(seed),
            name="pca",
            card={"recipe": "pca", "frames": 0, "films": [], "metrics": {"psnr": 20.0 + seed}},
            repository=repository,
        )
    return repository


@pytest.fixture(scope="session")
def service(
    tmp_path_factory: pytest.TempPathFactory, model_repository: Path
) -> Iterator[ServiceProcess]:
    """One running service for all tests that leave it as it was."""
    with ServiceProcess(tmp_path_factory.mktemp("service"), [model_repository]) as process:
        process.wait_until_serving()
        yield process
