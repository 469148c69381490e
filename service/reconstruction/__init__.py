"""The pipeline: film -> inference -> film. Knows no protobuf and no S3."""

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
from service.reconstruction.reconstructor import Reconstruction, Reconstructor

__all__ = [
    "Event",
    "FilmOpened",
    "LatentsMade",
    "OutputChunk",
    "Progress",
    "Reconstruction",
    "ReconstructionSettings",
    "Reconstructor",
    "StageSeconds",
    "Summary",
]
