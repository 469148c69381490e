"""Reconstructions of films that callers stream, and of library films. No protobuf."""

from service.pipeline.events import (
    Event,
    FilmOpened,
    LatentsMade,
    OutputChunk,
    Progress,
    StageSeconds,
    Summary,
)
from service.renditions.reconstruction_settings import ReconstructionSettings
from service.renditions.reconstructor import Reconstruction, Reconstructor
from service.renditions.registry import Registry
from service.renditions.runner import JobRunner
from service.renditions.target import Target
from service.renditions.watching import Watching, watch

__all__ = [
    "Event",
    "FilmOpened",
    "JobRunner",
    "LatentsMade",
    "OutputChunk",
    "Progress",
    "Reconstruction",
    "ReconstructionSettings",
    "Reconstructor",
    "Registry",
    "StageSeconds",
    "Summary",
    "Target",
    "Watching",
    "watch",
]
