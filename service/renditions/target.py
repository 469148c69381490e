"""The target of a reconstruction of a library film."""

from dataclasses import dataclass

from film.output import OutputSettings
from service.inference import ModelVersion
from service.library.films import Film
from service.library.records import StoredModel
from service.library.renditions import rendition_id


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a job: one rendition of one film."""

    film: Film
    model: ModelVersion
    output: OutputSettings

    @property
    def rendition(self) -> str:
        """The rendition's id."""
        return rendition_id(self.model.digest, self.output)

    @property
    def stored_model(self) -> StoredModel:
        """The model, as stored with its output."""
        model = self.model
        return StoredModel(model.name, model.version, model.digest, model.recipe)
