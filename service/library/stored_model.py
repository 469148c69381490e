"""The model version that made what is stored: it may be gone from Triton long since."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model version as it was when it worked. Its digest is its identity."""

    name: str
    version: int
    digest: str
    """"sha256:" and 64 hexadecimal digits."""
    recipe: str

    def to_json(self) -> dict[str, object]:
        """Return it as JSON holds it."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "recipe": self.recipe,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> "StoredModel":
        """Return what `to_json` made JSON of; raises KeyError or ValueError."""
        return cls(
            str(data["name"]), int(str(data["version"])), str(data["digest"]), str(data["recipe"])
        )
