"""Between the library's values and the contract's messages."""

from __future__ import annotations

from typing import cast

from refilm import _film_values as values
from refilm._times import moment, seconds
from refilm._values import ImageFormat, Layout, Picture, Quality, Size
from refilm._wire import (
    LAYOUTS,
    QUALITIES,
    SIZES,
    film_facts,
    identity,
    psnr,
)
from refilm.v1 import autoencoder_pb2
from refilm.v1 import library_pb2 as pb

_STATES: dict[int, values.JobState] = {
    pb.RECONSTRUCTION_STATE_QUEUED: "queued",
    pb.RECONSTRUCTION_STATE_RUNNING: "running",
    pb.RECONSTRUCTION_STATE_SUCCEEDED: "succeeded",
    pb.RECONSTRUCTION_STATE_FAILED: "failed",
    pb.RECONSTRUCTION_STATE_CANCELLED: "cancelled",
}
_VISIBILITIES: dict[int, values.Visibility] = {
    pb.Film.VISIBILITY_PRIVATE: "private",
    pb.Film.VISIBILITY_SHARED: "shared",
    pb.Film.VISIBILITY_EVERYONE: "everyone",
}
_LAYOUT_NAMES = {number: name for name, number in LAYOUTS.items()}
_SIZE_NAMES = {number: name for name, number in SIZES.items()}
_QUALITY_NAMES = {number: name for name, number in QUALITIES.items()}


def film(message: pb.Film) -> values.Film:
    """Returns a film with what was made from it."""
    return values.Film(
        name=message.name,
        uid=message.uid,
        title=message.title,
        size=message.size_bytes,
        digest=message.digest,
        created=moment(message.create_time),
        facts=film_facts(message.facts),
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
        owner=message.owner,
        visibility=_VISIBILITIES.get(message.visibility, "unknown"),
        shared_with=tuple(message.shared_with),
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
        mean_psnr_db=psnr(message),
    )


def _settings(message: autoencoder_pb2.RenditionSettings) -> values.RenditionSettings:
    # Unset and unknown values mean the default, as they do in requests.
    return values.RenditionSettings(
        layout=cast("Layout", _LAYOUT_NAMES.get(message.layout, "reconstruction")),
        size=cast("Size", _SIZE_NAMES.get(message.picture_size, "model")),
        sound=message.sound != autoencoder_pb2.RenditionSettings.SOUND_NONE,
        quality=cast("Quality", _QUALITY_NAMES.get(message.quality, "standard")),
    )


def picture(message: pb.GetFrameResponse, format: ImageFormat) -> Picture:
    """Returns one frame of a film."""
    return Picture(
        data=message.frame.raw.rgb if format == "raw" else message.frame.image,
        format=format,
        model=identity(message.model),
        timing=None,
        time=seconds(message.time),
    )


def upload(message: pb.Upload) -> values.Upload:
    """Returns an upload's progress."""
    return values.Upload(
        upload_id=message.name.partition("/")[2],
        committed=message.committed_bytes,
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
        queue_position=message.queue_position if message.HasField("queue_position") else None,
        mean_psnr_db=psnr(message),
    )
