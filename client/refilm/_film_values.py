"""What calls to the library return."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from refilm._values import FilmFacts, Layout, ModelIdentity, Quality, Size

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "unknown"]
Visibility = Literal["private", "shared", "everyone", "unknown"]


@dataclass(frozen=True)
class RenditionSettings:
    """What a rendition looks like."""

    layout: Layout
    size: Size
    sound: bool
    quality: Quality


@dataclass(frozen=True)
class Rendition:
    """A reconstruction that the library stores."""

    name: str
    """ "films/{film}/renditions/{rendition}"; what `Client.download` takes."""
    model: ModelIdentity
    settings: RenditionSettings
    size: int
    """Bytes, as one fragmented MP4."""
    frames: int
    duration: float
    """Seconds, from the first frame's presentation to the end of the last."""
    created: datetime
    mean_psnr_db: float | None = None
    """As `Reconstruction.mean_psnr_db`."""


@dataclass(frozen=True)
class StoredLatents:
    """The latents of every frame of a film, by one model."""

    name: str
    """ "films/{film}/latents/{digest}"; what `Client.download` takes, as a .npy file."""
    model: ModelIdentity
    frames: int
    created: datetime


@dataclass(frozen=True)
class Film:
    """A film of the library."""

    name: str
    """ "films/{film}"."""
    uid: str
    """Identifies it among all films ever stored."""
    title: str
    size: int
    """The source's, in bytes."""
    digest: str
    """ "sha256:" and 64 hexadecimal digits over the source's bytes."""
    created: datetime
    facts: FilmFacts
    renditions: tuple[Rendition, ...] = field(default=(), repr=False)
    """The complete ones; only `Client.film` returns them."""
    latents: tuple[StoredLatents, ...] = field(default=(), repr=False)
    """The complete ones, one a model digest; only `Client.film` returns them."""
    owner: str = ""
    """The caller who owns the film."""
    visibility: Visibility = "unknown"
    """Who can see it: its owner alone ("private"), also those in `shared_with`, or everyone."""
    shared_with: tuple[str, ...] = ()
    """The callers with whom the owner shares it."""

    @property
    def id(self) -> str:
        """The name's last part."""
        return self.name.partition("/")[2]


@dataclass(frozen=True)
class Upload:
    """An upload's progress."""

    upload_id: str
    committed: int
    """Bytes that are committed, from the film's first."""
    film: Film | None
    """The film, once the upload is complete."""


@dataclass(frozen=True)
class UploadUrl:
    """Where the object store itself accepts a film's bytes."""

    upload_id: str
    """What `Client.complete_upload` takes once the bytes are uploaded."""
    url: str
    """PUT the bytes here, with no further headers."""
    expires: datetime


@dataclass(frozen=True)
class DownloadUrls:
    """Where the object store itself serves bytes."""

    urls: tuple[str, ...]
    """In order: a source is one; a rendition's, joined, are the MP4; latents are .npy files."""
    expires: datetime


@dataclass(frozen=True)
class DownloadFacts:
    """What is downloaded."""

    size: int
    """Of the whole, in bytes."""
    media_type: str
    """For example "video/mp4"."""
    file_name: str
    """A suitable file name."""


@dataclass(frozen=True)
class TransferProgress:
    """The progress of an upload or a download."""

    bytes_done: int
    """Handed to the connection, or received from it, including earlier attempts."""
    bytes_total: int | None
    """None if the source does not say its size."""
    bytes_per_second: float | None
    """Over the last few seconds; None until it is known."""

    @property
    def fraction(self) -> float | None:
        """From 0 to 1."""
        if self.bytes_total is None:
            return None
        return min(1.0, self.bytes_done / self.bytes_total) if self.bytes_total else 1.0

    @property
    def eta(self) -> float | None:
        """Seconds left at that rate."""
        if self.bytes_total is None or not self.bytes_per_second:
            return None
        return max(0, self.bytes_total - self.bytes_done) / self.bytes_per_second


@dataclass(frozen=True)
class JobFault:
    """Why a job failed."""

    reason: str
    """Stable and machine-readable."""
    message: str


@dataclass(frozen=True)
class ReconstructionJob:
    """A reconstruction of a library film that outlives calls."""

    name: str
    """ "films/{film}/reconstructions/{reconstruction}"."""
    model: ModelIdentity
    settings: RenditionSettings
    state: JobState
    frames: int
    """The committed frames."""
    estimated_frames: int | None
    """The film's, an estimate until the job has succeeded."""
    position: float
    """Seconds: where in the film the last of these frames lies."""
    rendition: str
    """The rendition's name; it can be downloaded once the job has succeeded."""
    fault: JobFault | None
    created: datetime
    ended: datetime | None
    queue_position: int | None = None
    """The number of jobs ahead of it while it is queued; None if unknown."""
    mean_psnr_db: float | None = None
    """As `Progress.mean_psnr_db`."""

    @property
    def done(self) -> bool:
        """Whether it has ended, successfully or not."""
        return self.state in ("succeeded", "failed", "cancelled")

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None if the film does not say how many frames it has."""
        if self.state == "succeeded":
            return 1.0
        return min(1.0, self.frames / self.estimated_frames) if self.estimated_frames else None
