"""Small films that cost much, through every call that reads one: others do not notice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import grpc
import pytest
from refilm.v1 import latents_pb2, latents_pb2_grpc

from tests.support.bombs import repeated_pictures, sound_packets
from tests.support.library_calls import LibraryClient
from tests.support.reconstruct import reconstruct
from tests.support.service_process import ServiceProcess
from tests.support.status import parse_error

SETTINGS = {
    "REFILM_FILM_PACKETS_BETWEEN_PICTURES": "5000",
    "REFILM_FILM_DECODED_BYTES": str(2 << 30),
}
"""The second: more than twice what the example film takes."""
REFUSED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "FILM_LIMIT_PACKETS_BETWEEN_PICTURES")


@pytest.fixture(scope="module")
def limited(
    service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A service with a low limit, on the other one's Triton."""
    settings = {"REFILM_TRITON_ADDRESS": service.triton_address, **SETTINGS}
    with ServiceProcess(tmp_path_factory.mktemp("limited"), [], settings) as limited:
        limited.wait_until_serving()
        yield limited


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = sound_packets(tmp_path_factory.mktemp("bomb") / "bomb.mkv", 20_000, picture_first=False)
    return path.read_bytes()


@pytest.fixture(scope="module")
def large_bomb(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Pictures that a clip is read for; its sound is skipped."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.mp4"
    return repeated_pictures(path, 1400, 1024, seconds_each=Fraction(1, 24)).read_bytes()


def match_clip(channel: grpc.Channel, clip: bytes) -> None:
    def messages() -> Iterator[latents_pb2.MatchClipRequest]:
        yield latents_pb2.MatchClipRequest(settings=latents_pb2.MatchClipSettings())
        yield latents_pb2.MatchClipRequest(chunk=clip)

    latents_pb2_grpc.LatentsServiceStub(channel).MatchClip(messages(), timeout=60)


def test_a_bomb_is_no_film_to_keep(limited: ServiceProcess, bomb: bytes) -> None:
    with limited.connect() as channel, pytest.raises(grpc.RpcError) as refused:
        LibraryClient(channel).upload(bomb)
    assert (refused.value.code(), parse_error(refused.value).reason) == REFUSED
    assert "REFILM_FILM_PACKETS_BETWEEN_PICTURES" in refused.value.details()


def test_a_bomb_is_no_clip_to_match(limited: ServiceProcess, large_bomb: bytes) -> None:
    with limited.connect() as channel, pytest.raises(grpc.RpcError) as refused:
        match_clip(channel, large_bomb)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert parse_error(refused.value).reason == "FILM_LIMIT_DECODED_BYTES"
    assert "REFILM_FILM_DECODED_BYTES" in refused.value.details()


def test_others_do_not_notice_a_bomb(
    limited: ServiceProcess, bomb: bytes, example_film: Path
) -> None:
    with ThreadPoolExecutor() as pool, limited.connect() as channel, limited.connect() as other:
        alone = reconstruct(other, example_film)
        beside = pool.submit(reconstruct, other, example_film)
        bombs = 0
        while not beside.done():
            answer = reconstruct(channel, bomb)
            assert (answer.code, answer.reason) == REFUSED
            bombs += 1
        assert beside.result().output == alone.output
        assert bombs


def test_without_the_limit_it_is_a_film(service: ServiceProcess, bomb: bytes) -> None:
    with service.connect() as channel:
        answer = reconstruct(channel, bomb)
    assert answer.code is grpc.StatusCode.OK
    assert answer.summary is not None and answer.summary.frames == 2
