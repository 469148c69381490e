"""The pipeline: film -> inference -> film, and works on films of the library. Knows no protobuf."""

from service.reconstruction.events import (
    Event,
    FilmOpened,
    LatentsMade,
    OutputChunk,
    Progress,
    ReconstructionSettings,
    StageSeconds,
    Summary,
)
from service.reconstruction.jobs import JobRunner
from service.reconstruction.library import LibraryParts, Target
from service.reconstruction.reconstructor import Reconstruction, Reconstructor
from service.reconstruction.room import Room
from service.reconstruction.storing import Storing
from service.reconstruction.viewing import Viewing, view
from service.reconstruction.works import Works

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
