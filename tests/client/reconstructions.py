"""A scripted service that reconstructs: it answers with what it was sent."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from refilm.v1 import autoencoder_pb2 as pb

from tests.client.scripted_service import IDENTITY, ScriptedService, latent

FACTS = pb.ReconstructionFacts(
    film=pb.FilmFacts(
        container="mp4",
        video_codec="h264",
        width=640,
        height=360,
        time_base=pb.Rational(numerator=1, denominator=24),
        duration=Duration(seconds=2),
        estimated_frames=48,
        sound_tracks=[pb.SoundTrack(codec="aac", sample_rate_hz=48000)],
    ),
    output=pb.OutputFacts(
        model=IDENTITY,
        width=256,
        height=144,
        sound_track_actions=[pb.SOUND_TRACK_ACTION_COPIED],
    ),
)
Responses = Iterator[pb.ReconstructVideoResponse]
Requests = Iterator[pb.ReconstructVideoRequest]


def response(**payload: Any) -> pb.ReconstructVideoResponse:
    return pb.ReconstructVideoResponse(**payload)


def whole(scripted: ScriptedService) -> Callable[[Requests, grpc.ServicerContext], Responses]:
    """A service that answers with the film's own bytes, the facts first."""

    def answer(requests: Requests, context: grpc.ServicerContext) -> Responses:
        settings = next(requests).settings
        scripted.requests.append(settings)
        yield response(facts=FACTS)
        count = 0
        for number, request in enumerate(requests):
            count += len(request.chunk)
            yield response(chunk=request.chunk)
            yield response(
                progress=pb.ReconstructionProgress(
                    received_bytes=count, frames_decoded=12 + number, frames_written=12 + number
                )
            )
            if settings.include_latents:
                latents = [latent([number + part] * 200) for part in (0.25, 0.5)]
                yield response(latents=pb.LatentBatch(pts=[number, number + 1], latents=latents))
        yield response(
            summary=pb.ReconstructionSummary(
                frames=48,
                duration=Duration(seconds=2),
                received_bytes=count,
                sent_bytes=count,
                film_digest="sha256:film",
                model=IDENTITY,
                warnings=["one thing was repaired"],
            )
        )

    return answer


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
