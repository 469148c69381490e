"""The settings of a reconstruction that a caller streams."""

from dataclasses import dataclass

from film.output import OutputSettings
from service.inference import ModelVersion
from service.library.upload_records import UploadSettings


@dataclass(frozen=True, slots=True)
class ReconstructionSettings:
    """The caller's settings."""

    model: ModelVersion
    output: OutputSettings
    include_latents: bool
    film_bytes: int | None
    """The film's size as the caller announced it; None if it did not."""
    store: UploadSettings | None = None
    """How to store the film in the library; None: not at all."""
