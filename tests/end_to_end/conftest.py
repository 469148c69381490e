"""What end-to-end tests share."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.service_process import ROOT, ServiceProcess


@pytest.fixture
def channel(service: ServiceProcess) -> Iterator[grpc.Channel]:
    """A connection of its own to the running service."""
    with service.connect() as channel:
        yield channel


@pytest.fixture(scope="session")
def example_film() -> Path:
    """The film that comes with the project: 640 x 360, 24 frames a second, 60 s, AAC."""
    return ROOT / "examples" / "films" / "big_buck_bunny_60s.mp4"
