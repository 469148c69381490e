"""The pipeline: film -> inference -> film, and works on films of the library. Knows no protobuf."""

from service.pipeline.events import (
    Event,
    FilmOpened,
    LatentsMade,
    OutputChunk,
    Progress,
    StageSeconds,
    Summary,
)
from service.pipeline.limit import Room
from service.renditions.ingest import Storing
from service.renditions.library_parts import LibraryParts, Target
from service.renditions.reconstruction_settings import ReconstructionSettings
from service.renditions.reconstructor import Reconstruction, Reconstructor
from service.renditions.registry import Works
from service.renditions.runner import JobRunner
from service.renditions.watching import Viewing, view

__all__ = [
    "Event",
    "FilmOpened",
    "JobRunner",
    "LatentsMade",
    "LibraryParts",
    "OutputChunk",
    "Progress",
    "Reconstruction",
    "ReconstructionSettings",
    "Reconstructor",
    "Room",
    "StageSeconds",
    "Storing",
    "Summary",
    "Target",
    "Viewing",
    "Works",
    "view",
]
