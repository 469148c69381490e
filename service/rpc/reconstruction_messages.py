"""Reconstructions as messages: a film's facts, the output settings, and the events."""

from collections.abc import Mapping
from fractions import Fraction
from typing import TypeAlias, TypeVar

from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import library_pb2

from film.facts import FilmFacts, SoundAction
from film.output import Layout, OutputSettings, Quality, Size
from service.errors import InvalidFieldError
from service.inference import ModelVersion
from service.renditions import (
    Event,
    FilmOpened,
    LatentsMade,
    OutputChunk,
    Progress,
    StageSeconds,
    Summary,
)
from service.rpc.durations import duration
from service.rpc.messages import latent_message, model_identity, rational
from service.rpc.names import film_name, rendition_name

_ACTIONS = {
    SoundAction.COPY: pb.SOUND_TRACK_ACTION_COPIED,
    SoundAction.TRANSCODE: pb.SOUND_TRACK_ACTION_TRANSCODED,
    SoundAction.DROP: pb.SOUND_TRACK_ACTION_DROPPED,
}
_LAYOUTS = {
    pb.RenditionSettings.LAYOUT_UNSPECIFIED: Layout.RECONSTRUCTION,
    pb.RenditionSettings.LAYOUT_RECONSTRUCTION: Layout.RECONSTRUCTION,
    pb.RenditionSettings.LAYOUT_SIDE_BY_SIDE: Layout.SIDE_BY_SIDE,
}
_SIZES = {
    pb.RenditionSettings.PICTURE_SIZE_UNSPECIFIED: Size.MODEL,
    pb.RenditionSettings.PICTURE_SIZE_MODEL: Size.MODEL,
    pb.RenditionSettings.PICTURE_SIZE_SOURCE: Size.SOURCE,
}
_SOUNDS = {
    pb.RenditionSettings.SOUND_UNSPECIFIED: True,
    pb.RenditionSettings.SOUND_KEEP: True,
    pb.RenditionSettings.SOUND_NONE: False,
}
_QUALITIES = {
    pb.RenditionSettings.QUALITY_UNSPECIFIED: Quality.STANDARD,
    pb.RenditionSettings.QUALITY_DRAFT: Quality.DRAFT,
    pb.RenditionSettings.QUALITY_STANDARD: Quality.STANDARD,
    pb.RenditionSettings.QUALITY_HIGH: Quality.HIGH,
}

Number = TypeVar("Number", bound=int)
Chosen = TypeVar("Chosen", bool, Layout, Size, Quality)
Response: TypeAlias = pb.ReconstructVideoResponse | library_pb2.WatchReconstructionResponse
AnyResponse = TypeVar(
    "AnyResponse", pb.ReconstructVideoResponse, library_pb2.WatchReconstructionResponse
)


def facts_message(facts: FilmFacts) -> pb.FilmFacts:
    """Return a film's facts as a message."""
    return pb.FilmFacts(
        container=facts.container,
        video_codec=facts.video_codec,
        width=facts.width,
        height=facts.height,
        sample_aspect_ratio=rational(facts.sample_aspect_ratio),
        rotation_degrees=facts.rotation,
        average_frame_rate=rational(facts.average_frame_rate or Fraction(0)),
        time_base=rational(facts.time_base),
        duration=None if facts.duration is None else duration(facts.duration),
        estimated_frames=facts.estimated_frames or 0,
        interlaced=facts.interlaced,
        transfer=facts.transfer,
        bit_depth=facts.bit_depth,
        sound_tracks=[
            pb.SoundTrack(
                codec=track.codec,
                sample_rate_hz=track.sample_rate,
                channels=track.channels,
                language=track.language,
            )
            for track in facts.sound_tracks
        ],
    )


def output_message(
    facts: FilmFacts, size: tuple[int, int], model: pb.ModelIdentity
) -> pb.OutputFacts:
    """Return the facts of the output: pictures of `size` (width, height), by `model`."""
    width, height = size
    return pb.OutputFacts(
        model=model,
        width=width,
        height=height,
        tone_mapped=facts.tone_mapped,
        sound_track_actions=[_ACTIONS[track.action] for track in facts.sound_tracks],
    )


def output_settings(settings: pb.RenditionSettings, field: str) -> OutputSettings:
    """Return a request's output settings; `field` is their path. Raises InvalidFieldError."""
    return OutputSettings(
        layout=_choice(_LAYOUTS, settings.layout, f"{field}.layout", "Layout"),
        size=_choice(_SIZES, settings.picture_size, f"{field}.picture_size", "PictureSize"),
        sound=_choice(_SOUNDS, settings.sound, f"{field}.sound", "Sound"),
        quality=_choice(_QUALITIES, settings.quality, f"{field}.quality", "Quality"),
    )


def _choice(choices: Mapping[Number, Chosen], value: Number, field: str, enum: str) -> Chosen:
    if value not in choices:
        raise InvalidFieldError(field, f"{value} is no {enum}", reason="INVALID_SETTING")
    return choices[value]


def settings_message(settings: OutputSettings) -> pb.RenditionSettings:
    """Return a rendition's settings as a message."""
    return pb.RenditionSettings(
        layout=_number(_LAYOUTS, settings.layout),
        picture_size=_number(_SIZES, settings.size),
        sound=_number(_SOUNDS, settings.sound),
        quality=_number(_QUALITIES, settings.quality),
    )


def _number(choices: Mapping[Number, Chosen], chosen: Chosen) -> Number:
    """Return the enum number of a choice, never that of UNSPECIFIED, which comes first."""
    return [number for number, choice in choices.items() if choice == chosen][-1]


def event_message(kind: type[AnyResponse], event: Event, model: ModelVersion) -> AnyResponse:
    """Return an event as a response of type `kind`; `model` reconstructs the film."""
    match event:
        case OutputChunk():
            return kind(chunk=event.data)
        case Progress():
            return kind(progress=_progress(event))
        case LatentsMade():
            return kind(
                latents=pb.LatentBatch(
                    pts=event.pts.tolist(), latents=[latent_message(row) for row in event.latents]
                )
            )
        case FilmOpened():
            return kind(
                facts=pb.ReconstructionFacts(
                    film=facts_message(event.facts),
                    output=output_message(event.facts, event.output_size, model_identity(model)),
                )
            )
        case Summary():
            return kind(summary=_summary(event, model))


def _progress(progress: Progress) -> pb.ReconstructionProgress:
    return pb.ReconstructionProgress(
        received_bytes=progress.bytes_received,
        frames_decoded=progress.frames_decoded,
        frames_reconstructed=progress.frames_reconstructed,
        frames_written=progress.frames_written,
        position=duration(progress.position),
        frames_reused=progress.frames_reused,
    )


def _summary(summary: Summary, model: ModelVersion) -> pb.ReconstructionSummary:
    return pb.ReconstructionSummary(
        frames=summary.frames,
        duration=duration(summary.duration),
        received_bytes=summary.bytes_received,
        sent_bytes=summary.bytes_sent,
        film_digest=summary.film_digest,
        model=model_identity(model),
        stage_times=_stage_times(summary.stage_seconds),
        warnings=summary.warnings,
        film=film_name(summary.film) if summary.film else "",
        rendition=rendition_name(summary.film, summary.rendition) if summary.film else "",
    )


def _stage_times(seconds: StageSeconds) -> pb.StageTimes:
    return pb.StageTimes(
        read=duration(seconds.read),
        encode=duration(seconds.encode),
        decode=duration(seconds.decode),
        write=duration(seconds.write),
    )
