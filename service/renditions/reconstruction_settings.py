"""What a caller wants made of a film that they send."""

from dataclasses import dataclass

from film.output import OutputSettings
from service.inference import ModelVersion
from service.library.upload_records import UploadSettings


@dataclass(frozen=True, slots=True)
class ReconstructionSettings:
    """What the caller wants made of the film."""

    model: ModelVersion
    output: OutputSettings
    include_latents: bool
    film_bytes: int | None
    """The film's size as the caller announced it; None if it did not."""
    store: UploadSettings | None = None
    """How the film shall be kept in the library; None: not."""
