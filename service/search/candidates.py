"""What an index answers with: moments of films that may look like a query."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """One indexed row, about one a second of each film."""

    film: str
    """The film's id."""
    film_uid: str
    row: int
    """Its number in the film's latents."""
    seconds: float
    """From the film's first frame."""
    similarity: float
    """The cosine of the embeddings, -1 to 1; of a large index, which keeps a byte a number, to
    within about 0.01."""
