"""FindDuplicates: pairs of passages, page by page."""

import json
from collections import OrderedDict
from fractions import Fraction
from typing import Final

from pydantic import FiniteFloat, TypeAdapter
from refilm.v1 import latents_pb2 as pb

from service import metrics
from service.errors import InvalidFieldError
from service.inference import Models, ModelVersion
from service.library.films import Film
from service.limit import Limit
from service.rpc import messages
from service.rpc.call import Context, current_call
from service.rpc.durations import duration, seconds_of
from service.rpc.film_latents import FilmLatents
from service.rpc.names import film_name
from service.rpc.pages import FilmId, PageTokens, page_size
from service.search.duplicates import DuplicateQuery, rank
from service.search.engine import Search
from service.search.passage_pairs import FilmRange, PassagePair

DEFAULT_SIMILARITY = 0.9
LEAST_SIMILARITY = 0.5
"""Below this, frames have little in common, and there would be too many pairs."""
DEFAULT_SECONDS = Fraction(2)
LEAST_SECONDS = Fraction(1)
"""Films are indexed at about one frame per second."""

_KEPT_ANSWERS = 8


_TOKENS: Final = PageTokens(
    "duplicates",
    TypeAdapter(tuple[FiniteFloat, FiniteFloat, FilmId, FiniteFloat, FilmId, FiniteFloat]),
)


class DuplicateCalls:
    """Handles FindDuplicates. Caches its last results to serve their next pages."""

    def __init__(
        self, models: Models, film_latents: FilmLatents, search: Search, limit: Limit
    ) -> None:
        self._models = models
        self._film_latents = film_latents
        self._search = search
        self._limit = limit
        self._kept: OrderedDict[str, list[PassagePair]] = OrderedDict()

    async def FindDuplicates(
        self,
        request: pb.FindDuplicatesRequest,
        context: "Context[pb.FindDuplicatesRequest, pb.FindDuplicatesResponse]",
    ) -> pb.FindDuplicatesResponse:
        """Find passages that appear more than once: a page of pairs, the longest first."""
        size = page_size(request.page_size)
        model, wanted = await self._wanted(request)
        chosen_by = json.dumps(
            [wanted.digest, sorted(wanted.films or ()), wanted.minimum, wanted.seconds]
        )
        after = _TOKENS.after(request.page_token, chosen_by)
        pairs = self._kept.get(chosen_by) if after else None
        if pairs is None:
            pairs = await self._find(wanted)
            self._kept[chosen_by] = pairs
            while len(self._kept) > _KEPT_ANSWERS:
                self._kept.popitem(last=False)
        following = [one for one in pairs if not after or rank(one) > after]
        films: dict[str, Film] = {}
        shown: list[PassagePair] = []
        taken = 0
        while len(shown) < size and taken < len(following):
            some = following[taken : taken + size - len(shown)]
            taken += len(some)
            # Right before the response, so that it omits films deleted meanwhile.
            films = await self._search.films_of(
                stretch for one in [*shown, *some] for stretch in (one.first, one.second)
            )
            shown = [
                one
                for one in [*shown, *some]
                if one.first.film in films and one.second.film in films
            ]
        more = taken < len(following)
        current_call().frames = len(shown)
        return pb.FindDuplicatesResponse(
            pairs=[_pair(one, films) for one in shown],
            next_page_token=_TOKENS.token(rank(shown[-1]), chosen_by) if more else "",
            model=messages.model_identity(model),
        )

    async def _wanted(
        self, request: pb.FindDuplicatesRequest
    ) -> tuple[ModelVersion, DuplicateQuery]:
        similarity = DEFAULT_SIMILARITY
        if request.HasField("min_similarity"):
            similarity = round(request.min_similarity, 6)
        if not LEAST_SIMILARITY <= similarity <= 1:
            raise InvalidFieldError(
                "min_similarity",
                f"is {similarity:g}; must be from {LEAST_SIMILARITY:g} to 1, or unset for "
                f"{DEFAULT_SIMILARITY:g}",
                reason="INVALID_MIN_SIMILARITY",
            )
        seconds = DEFAULT_SECONDS
        if request.HasField("min_duration"):
            seconds = seconds_of(request.min_duration, "min_duration")
        if seconds < LEAST_SECONDS:
            raise InvalidFieldError(
                "min_duration", "must be at least 1 s", reason="INVALID_MIN_DURATION"
            )
        films = await self._film_latents.films(request.films, "films")
        model = messages.resolve(self._models, request.model)
        current_call().model = model
        return model, DuplicateQuery(model.digest, films, similarity, float(seconds))

    async def _find(self, wanted: DuplicateQuery) -> list[PassagePair]:
        with self._limit, metrics.SEARCH_SECONDS.labels("FindDuplicates").time():
            return await self._search.duplicates(wanted)


def _pair(pairs: PassagePair, films: dict[str, Film]) -> pb.DuplicatePair:
    return pb.DuplicatePair(
        first=_passage(pairs.first, films),
        second=_passage(pairs.second, films),
        similarity=pairs.similarity,
    )


def _passage(stretch: FilmRange, films: dict[str, Film]) -> pb.Passage:
    return pb.Passage(
        film=film_name(stretch.film),
        title=films[stretch.film].title,
        start_time=duration(stretch.start),
        end_time=duration(stretch.stop),
    )
