"""Calls ReconstructVideo as any gRPC client would, and reads the responses."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from numpy.typing import NDArray
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc as pb_grpc
from refilm.v1 import library_pb2

from tests.support.messages import numbers

CHUNK_BYTES = 256 * 1024
TIMEOUT_SECONDS = 120.0


@dataclass
class Answer:
    """All responses of one call."""

    film: pb.FilmFacts | None = None
    made: pb.OutputFacts | None = None
    progress: list[pb.ReconstructionProgress] = field(default_factory=list)
    pts: list[int] = field(default_factory=list)
    latents: list[float] = field(default_factory=list)
    output: bytes = b""
    summary: pb.ReconstructionSummary | None = None
    order: list[str] = field(default_factory=list)
    error: grpc.RpcError | None = None

    @property
    def code(self) -> grpc.StatusCode:
        """The call's status code."""
        if self.error is None:
            return grpc.StatusCode.OK
        assert isinstance(self.error, grpc.Call)
        return self.error.code()

    def detail(self, kind: type[Message]) -> Message:
        """The one google.rpc detail of this kind; fails if there is none."""
        assert isinstance(self.error, grpc.Call)
        status = rpc_status.from_call(self.error)
        assert status is not None, "the status carries no details"
        for packed in status.details:
            detail = kind()
            if packed.Unpack(detail):
                return detail
        raise AssertionError(f"no {kind.__name__} in {status}")

    @property
    def reason(self) -> str:
        """ErrorInfo.reason."""
        info = self.detail(error_details_pb2.ErrorInfo)
        assert isinstance(info, error_details_pb2.ErrorInfo)
        assert info.domain == "refilm"
        return info.reason

    @property
    def fields(self) -> list[str]:
        """The fields that BadRequest names."""
        request = self.detail(error_details_pb2.BadRequest)
        assert isinstance(request, error_details_pb2.BadRequest)
        return [violation.field for violation in request.field_violations]

    def take(
        self, response: pb.ReconstructVideoResponse | library_pb2.WatchReconstructionResponse
    ) -> str:
        """Add one response; return its kind."""
        kind = response.WhichOneof("payload")
        assert kind is not None, "a response without a payload"
        self.order.append(kind)
        match kind:
            case "facts":
                assert self.film is None, "the film's facts came twice"
                self.film, self.made = response.facts.film, response.facts.output
            case "progress":
                self.progress.append(response.progress)
            case "latents":
                self.pts.extend(response.latents.pts)
                self.latents.extend(numbers(response.latents.latents))
            case "chunk":
                assert 1 <= len(response.chunk) <= 2**20
                self.output += response.chunk
            case "summary":
                self.summary = response.summary
        return kind


def requests(
    film: bytes, settings: pb.ReconstructVideoSettings | None = None
) -> Iterator[pb.ReconstructVideoRequest]:
    """Settings, then the film in chunks."""
    yield pb.ReconstructVideoRequest(settings=settings or pb.ReconstructVideoSettings())
    for start in range(0, len(film), CHUNK_BYTES):
        yield pb.ReconstructVideoRequest(chunk=film[start : start + CHUNK_BYTES])


def call(channel: grpc.Channel, messages: Iterable[pb.ReconstructVideoRequest]) -> Answer:
    """Send messages, and collect every response until the call ends, successfully or not."""
    answer = Answer()
    stub = pb_grpc.AutoencoderServiceStub(channel)
    try:
        for response in stub.ReconstructVideo(iter(messages), timeout=TIMEOUT_SECONDS):
            answer.take(response)
    except grpc.RpcError as error:
        answer.error = error
    return answer


def reconstruct(
    channel: grpc.Channel,
    film: bytes | Path,
    look: pb.RenditionSettings | None = None,
    **settings: Any,
) -> Answer:
    """Reconstruct a film; keyword arguments are fields of ReconstructVideoSettings."""
    data = film.read_bytes() if isinstance(film, Path) else film
    return call(channel, requests(data, pb.ReconstructVideoSettings(rendition=look, **settings)))


@dataclass
class Sound:
    """One sound track, undecoded."""

    codec: str
    times: list[Fraction]
    """Seconds, one a packet."""
    payloads: list[bytes]
    heard_from: Fraction | None = None
    """When its first sample is heard, in seconds, without the priming that players skip."""


@dataclass
class Film:
    """A film as PyAV reads it."""

    times: list[Fraction]
    """Presentation times in seconds, one a frame."""
    pictures: list[NDArray[Any]]
    """[H, W, 3] RGB, as stored."""
    sample_aspect_ratio: Fraction
    sounds: list[Sound]


def read_film(film: bytes | Path, *, pictures: bool = True) -> Film:
    """Decode all pictures, and list all packets of sound."""
    source = io.BytesIO(film) if isinstance(film, bytes) else film
    with av.open(source, "r") as container:
        video = next(
            stream
            for stream in container.streams.video
            if not stream.disposition & av.stream.Disposition.attached_pic
        )
        ratio = video.sample_aspect_ratio or video.codec_context.sample_aspect_ratio
        result = Film([], [], Fraction(ratio or 1), [])
        sounds = {
            stream.index: Sound(stream.codec_context.name, [], [])
            for stream in container.streams.audio
        }
        for packet in container.demux():
            sound = sounds.get(packet.stream.index)
            if sound is not None and packet.size:
                assert packet.pts is not None and packet.time_base is not None
                sound.times.append(packet.pts * packet.time_base)
                sound.payloads.append(bytes(packet))
                if sound.heard_from is None:
                    heard: Any
                    for heard in packet.decode():
                        assert heard.pts is not None and heard.time_base is not None
                        sound.heard_from = heard.pts * heard.time_base
                        break
            elif packet.stream is video:
                for frame in packet.decode():
                    assert isinstance(frame, av.VideoFrame)
                    assert frame.pts is not None and frame.time_base is not None
                    result.times.append(frame.pts * frame.time_base)
                    if pictures:
                        result.pictures.append(frame.to_ndarray(format="rgb24"))
        result.sounds = list(sounds.values())
    return result
