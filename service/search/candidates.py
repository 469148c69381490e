"""What an index answers with: moments of films that may look like a query."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


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


class CandidateSource(Protocol):
    """Where candidates come from: `service.search.engine.Search`."""

    async def candidates(
        self,
        digest: str,
        embeddings: NDArray[np.float32],
        count: int,
        films: Collection[str] | None = None,
    ) -> list[Sequence[Candidate]]:
        """Return for each query the rows most like it, the most similar first.

        Flat rows are left out, films whose latents are not indexed yet are missing, and films that
        were just deleted may still be there: ask `Films.exists` before answering.

        Args:
            digest: the model's, "sha256:…".
            embeddings: [N, 200], of unit length.
            count: at most so many rows a query.
            films: only of films with these ids; None: of all.
        """
