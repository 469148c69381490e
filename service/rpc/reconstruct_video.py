"""ReconstructVideo: its messages, and what they mean to the pipeline."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from fractions import Fraction
from typing import TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from refilm.v1 import autoencoder_pb2 as pb

from film.facts import FilmFacts, SoundAction
from film.output import Layout, OutputSettings, Quality, Size
from service.errors import IdleCallerError, InvalidFieldError
from service.inference import Models, ModelVersion
from service.reconstruction import (
    Event,
    FilmOpened,
    LatentsMade,
    OutputChunk,
    Progress,
    ReconstructionSettings,
    Reconstructor,
    StageSeconds,
    Summary,
)
from service.rpc import convert
from service.rpc.call import current_call

MAX_CHUNK_BYTES = 2**20
_NANOSECONDS = 10**9

_LAYOUTS = {
    pb.LAYOUT_UNSPECIFIED: Layout.RECONSTRUCTION,
    pb.LAYOUT_RECONSTRUCTION: Layout.RECONSTRUCTION,
    pb.LAYOUT_SIDE_BY_SIDE: Layout.SIDE_BY_SIDE,
}
_SIZES = {
    pb.SIZE_UNSPECIFIED: Size.MODEL,
    pb.SIZE_MODEL: Size.MODEL,
    pb.SIZE_SOURCE: Size.SOURCE,
}
_SOUNDS = {pb.SOUND_UNSPECIFIED: True, pb.SOUND_KEEP: True, pb.SOUND_NONE: False}
_QUALITIES = {
    pb.QUALITY_UNSPECIFIED: Quality.STANDARD,
    pb.QUALITY_DRAFT: Quality.DRAFT,
    pb.QUALITY_STANDARD: Quality.STANDARD,
    pb.QUALITY_HIGH: Quality.HIGH,
}
_ACTIONS = {
    SoundAction.COPY: pb.SOUND_TRACK_ACTION_COPIED,
    SoundAction.TRANSCODE: pb.SOUND_TRACK_ACTION_TRANSCODED,
    SoundAction.DROP: pb.SOUND_TRACK_ACTION_DROPPED,
}

Number = TypeVar("Number", bound=int)
Chosen = TypeVar("Chosen", bool, Layout, Size, Quality)


class ReconstructVideo:
    """Answers ReconstructVideo calls."""

    def __init__(
        self, models: Models, reconstructor: Reconstructor, *, idle_seconds: float
    ) -> None:
        self._models = models
        self._reconstructor = reconstructor
        self._idle_seconds = idle_seconds

    async def __call__(
        self,
        requests: AsyncIterator[pb.ReconstructVideoRequest],
        context: grpc.aio.ServicerContext[pb.ReconstructVideoRequest, pb.ReconstructVideoResponse],
    ) -> AsyncIterator[pb.ReconstructVideoResponse]:
        """Yield the responses of one call; raises service.errors."""
        settings = self._settings(await self._first(requests))
        call = current_call()
        call.model = settings.model
        reconstruction = self._reconstructor.start(settings, _chunks(requests))
        # At once when the caller leaves or its deadline passes: this generator may then be waiting
        # in a write, and be closed later.
        # The stub's callback type is a class where a protocol is meant: nothing can match it.
        context.add_done_callback(lambda _: reconstruction.cancel())  # type: ignore[arg-type]
        async with aclosing(reconstruction.events()) as events:
            async for event in events:
                if isinstance(event, Progress):
                    call.frames = event.frames_written
                yield _response(event, settings.model)

    async def _first(
        self, requests: AsyncIterator[pb.ReconstructVideoRequest]
    ) -> pb.ReconstructVideoSettings:
        try:
            async with asyncio.timeout(self._idle_seconds):
                first = await anext(aiter(requests), None)
        except TimeoutError:
            raise IdleCallerError(
                f"no message came for {self._idle_seconds:.0f} s; send settings, then the film"
            ) from None
        if first is None:
            raise InvalidFieldError(
                "settings",
                "the stream is empty; send settings, then the film's bytes",
                reason="EMPTY_STREAM",
            )
        if first.WhichOneof("payload") != "settings":
            raise InvalidFieldError(
                "settings", "must be in the first message", reason="SETTINGS_REQUIRED"
            )
        return first.settings

    def _settings(self, settings: pb.ReconstructVideoSettings) -> ReconstructionSettings:
        output = OutputSettings(
            layout=_choice(_LAYOUTS, settings.layout, "layout", "Layout"),
            size=_choice(_SIZES, settings.size, "size", "Size"),
            sound=_choice(_SOUNDS, settings.sound, "sound", "Sound"),
            quality=_choice(_QUALITIES, settings.quality, "quality", "Quality"),
        )
        return ReconstructionSettings(
            model=convert.resolve(self._models, settings.model),
            output=output,
            include_latents=settings.include_latents,
            film_bytes=settings.film_size_bytes or None,
        )


def _choice(choices: Mapping[Number, Chosen], value: Number, field: str, enum: str) -> Chosen:
    if value not in choices:
        raise InvalidFieldError(
            f"settings.{field}", f"{value} is no {enum}", reason="INVALID_SETTING"
        )
    return choices[value]


async def _chunks(requests: AsyncIterator[pb.ReconstructVideoRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        match request.WhichOneof("payload"):
            case "chunk":
                yield _checked(request.chunk)
            case "settings":
                raise InvalidFieldError(
                    "settings", "may be in the first message only", reason="SETTINGS_REPEATED"
                )
            case _:
                raise InvalidFieldError(
                    "chunk", "the message carries nothing; set chunk", reason="CHUNK_REQUIRED"
                )


def _checked(chunk: bytes) -> bytes:
    if not 1 <= len(chunk) <= MAX_CHUNK_BYTES:
        raise InvalidFieldError(
            "chunk",
            f"has {len(chunk)} bytes; must have from 1 to {MAX_CHUNK_BYTES}",
            reason="INVALID_CHUNK_SIZE",
        )
    return chunk


def _response(event: Event, model: ModelVersion) -> pb.ReconstructVideoResponse:
    match event:
        case OutputChunk():
            return pb.ReconstructVideoResponse(chunk=event.data)
        case Progress():
            return pb.ReconstructVideoResponse(progress=_progress(event))
        case LatentsMade():
            return pb.ReconstructVideoResponse(
                latents=pb.LatentBatch(
                    pts=event.pts.tolist(), values=event.latents.ravel().tolist()
                )
            )
        case FilmOpened():
            return pb.ReconstructVideoResponse(film=_facts(event, model))
        case Summary():
            return pb.ReconstructVideoResponse(summary=_summary(event, model))


def _progress(progress: Progress) -> pb.ReconstructVideoProgress:
    return pb.ReconstructVideoProgress(
        bytes_received=progress.bytes_received,
        frames_decoded=progress.frames_decoded,
        frames_reconstructed=progress.frames_reconstructed,
        frames_written=progress.frames_written,
        position=_duration(progress.position),
    )


def _facts(opened: FilmOpened, model: ModelVersion) -> pb.FilmFacts:
    facts: FilmFacts = opened.facts
    width, height = opened.output_size
    return pb.FilmFacts(
        container=facts.container,
        video_codec=facts.video_codec,
        width=facts.width,
        height=facts.height,
        sample_aspect_ratio=_rational(facts.sample_aspect_ratio),
        rotation_degrees=facts.rotation,
        average_frame_rate=_rational(facts.average_frame_rate or Fraction(0)),
        time_base=_rational(facts.time_base),
        duration=None if facts.duration is None else _duration(facts.duration),
        estimated_frames=facts.estimated_frames or 0,
        interlaced=facts.interlaced,
        transfer=facts.transfer,
        tone_mapped=facts.tone_mapped,
        bit_depth=facts.bit_depth,
        sound_tracks=[
            pb.SoundTrack(
                codec=track.codec,
                sample_rate_hz=track.sample_rate,
                channels=track.channels,
                language=track.language,
                action=_ACTIONS[track.action],
            )
            for track in facts.sound_tracks
        ],
        model=convert.model_identity(model),
        output_width=width,
        output_height=height,
    )


def _summary(summary: Summary, model: ModelVersion) -> pb.ReconstructVideoSummary:
    return pb.ReconstructVideoSummary(
        frames=summary.frames,
        duration=_duration(summary.duration),
        bytes_received=summary.bytes_received,
        bytes_sent=summary.bytes_sent,
        film_digest=summary.film_digest,
        model=convert.model_identity(model),
        stage_times=_stage_times(summary.stage_seconds),
        warnings=summary.warnings,
    )


def _stage_times(seconds: StageSeconds) -> pb.StageTimes:
    return pb.StageTimes(
        read=convert.duration(seconds.read),
        encode=convert.duration(seconds.encode),
        decode=convert.duration(seconds.decode),
        write=convert.duration(seconds.write),
    )


def _rational(value: Fraction) -> pb.Rational:
    return pb.Rational(numerator=value.numerator, denominator=value.denominator)


def _duration(seconds: Fraction) -> Duration:
    """Return a protobuf duration, to the nanosecond; times of films are exact fractions."""
    whole, rest = divmod(round(seconds * _NANOSECONDS), _NANOSECONDS)
    return Duration(seconds=whole, nanos=rest)
