"""Between the library's values and the contract's messages."""

from __future__ import annotations

from typing import cast

from refilm import _film_values as values
from refilm._times import moment, seconds
from refilm._values import Layout, Quality, Size
from refilm._wire import LAYOUTS, QUALITIES, SIZES, choice, identity, source_facts
from refilm.v1 import autoencoder_pb2
from refilm.v1 import library_pb2 as pb

_STATES: dict[int, values.JobState] = {
    pb.RECONSTRUCTION_STATE_QUEUED: "queued",
    pb.RECONSTRUCTION_STATE_RUNNING: "running",
    pb.RECONSTRUCTION_STATE_SUCCEEDED: "succeeded",
    pb.RECONSTRUCTION_STATE_FAILED: "failed",
    pb.RECONSTRUCTION_STATE_CANCELLED: "cancelled",
}
_LAYOUT_NAMES = {number: name for name, number in LAYOUTS.items()}
_SIZE_NAMES = {number: name for name, number in SIZES.items()}
_QUALITY_NAMES = {number: name for name, number in QUALITIES.items()}


def film(message: pb.Film) -> values.Film:
    """Returns a film with what was made of it."""
    return values.Film(
        name=message.name,
        uid=message.uid,
        title=message.title,
        size=message.size_bytes,
        digest=message.digest,
        created=moment(message.create_time),
        facts=source_facts(message.facts),
        renditions=tuple(_rendition(rendition) for rendition in message.renditions),
        latents=tuple(
            values.StoredLatents(
                name=latents.name,
                model=identity(latents.model),
                frames=latents.frames,
                created=moment(latents.create_time),
            )
            for latents in message.latents
        ),
    )


def _rendition(message: pb.Rendition) -> values.Rendition:
    return values.Rendition(
        name=message.name,
        model=identity(message.model),
        settings=_settings(message.settings),
        size=message.size_bytes,
        frames=message.frames,
        duration=seconds(message.duration),
        created=moment(message.create_time),
    )


def _settings(message: pb.RenditionSettings) -> values.RenditionSettings:
    # Unset and unknown words mean the default, as they do going out.
    return values.RenditionSettings(
        layout=cast("Layout", _LAYOUT_NAMES.get(message.layout, "reconstruction")),
        size=cast("Size", _SIZE_NAMES.get(message.size, "model")),
        sound=message.sound != autoencoder_pb2.SOUND_NONE,
        quality=cast("Quality", _QUALITY_NAMES.get(message.quality, "standard")),
    )


def rendition_settings(
    *, layout: str, size: str, sound: bool, quality: str
) -> pb.RenditionSettings:
    """Returns the message of a rendition's settings; raises ValueError for an unknown choice."""
    return pb.RenditionSettings(
        layout=choice("layout", LAYOUTS, layout),
        size=choice("size", SIZES, size),
        sound=autoencoder_pb2.SOUND_KEEP if sound else autoencoder_pb2.SOUND_NONE,
        quality=choice("quality", QUALITIES, quality),
    )


def upload(upload_id: str, message: pb.GetUploadResponse) -> values.Upload:
    """Returns how far an upload is."""
    return values.Upload(
        upload_id=upload_id,
        committed=message.committed_size,
        film=film(message.film) if message.HasField("film") else None,
    )


def download_facts(message: pb.DownloadFacts) -> values.DownloadFacts:
    """Returns what is downloaded."""
    return values.DownloadFacts(message.size_bytes, message.media_type, message.file_name)


def job(message: pb.Reconstruction) -> values.ReconstructionJob:
    """Returns a reconstruction that outlives calls."""
    fault = message.fault
    return values.ReconstructionJob(
        name=message.name,
        model=identity(message.model),
        settings=_settings(message.settings),
        state=_STATES.get(message.state, "unknown"),
        frames=message.frames,
        estimated_frames=message.estimated_frames or None,
        position=seconds(message.position),
        rendition=message.rendition,
        fault=values.JobFault(fault.reason, fault.message) if message.HasField("fault") else None,
        created=moment(message.create_time),
        ended=moment(message.end_time) if message.HasField("end_time") else None,
    )
