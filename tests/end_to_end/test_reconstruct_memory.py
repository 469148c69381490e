"""Memory does not grow with the film's length."""

from fractions import Fraction
from pathlib import Path

import pytest
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc

from tests.film.clips import Track, make_clip
from tests.support.reconstruct import requests
from tests.support.service_process import ServiceProcess

RATE = 5
"""Pictures a second: few, so that ten minutes go through in seconds."""


def peak_bytes(service: ServiceProcess, film: Path) -> int:
    """Reconstruct a film, keeping nothing of it here, and return the service's peak memory."""
    process = Path(f"/proc/{service.process.pid}")
    (process / "clear_refs").write_text("5")  # The peak begins again at what is used now.
    frames = 0
    with service.connect() as channel:
        stub = pb_grpc.AutoencoderServiceStub(channel)
        for response in stub.ReconstructVideo(requests(film.read_bytes()), timeout=240):
            if response.WhichOneof("payload") == "summary":
                frames = response.summary.frames
    assert frames
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


@pytest.mark.timeout(300)
def test_ten_minutes_take_no_more_memory_than_one(service: ServiceProcess, tmp_path: Path) -> None:
    films = [
        make_clip(
            tmp_path / f"{minutes}.mp4",
            size=(160, 90),
            frames=minutes * 60 * RATE,
            rate=RATE,
            time_base=Fraction(1, 1000),
            sound=[Track()],
            movflags="faststart",
        ).path
        for minutes in (1, 10)
    ]
    peak_bytes(service, films[0])  # What is loaded and allocated once.

    one, ten = (peak_bytes(service, film) for film in films)

    assert ten - one < 64 * 2**20
