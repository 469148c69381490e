"""Parses SearchFrames requests, and makes the page tokens of their results."""

import base64
import hashlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, FiniteFloat, StringConstraints, TypeAdapter
from refilm.v1 import autoencoder_pb2
from refilm.v1 import latents_pb2 as pb

from film.quality import frame_detail, is_flat
from service.errors import InvalidFieldError
from service.inference import LATENT_SIZE, Inference, Models, ModelVersion
from service.library.library import Library
from service.rpc import messages
from service.rpc.durations import seconds_of
from service.rpc.film_latents import FilmLatents
from service.rpc.pages import FilmId, PageTokens, refused_token
from service.rpc.picture_calls import Pictures
from service.search.candidates import unit
from service.search.engine import DEEPEST, Place
from service.search.rerank import Question

FLAT = (
    "the query is almost of one colour (black, white, faded out): frames like it all look alike, "
    "so the hits mean little; films' flat frames are not indexed"
)


class _Following(BaseModel):
    """The content of a page token: the previous page's query, and where that page ended."""

    digest: Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$")]
    flat: bool
    embeddings: Annotated[str, StringConstraints(max_length=2048)]
    """float16 [1 or 2, 200], base64."""
    after: tuple[
        Annotated[FiniteFloat, Field(ge=-1, le=2)], FilmId, Annotated[int, Field(ge=0, lt=2**31)]
    ]
    depth: Annotated[int, Field(ge=1, le=DEEPEST)]

    def vectors(self) -> NDArray[np.float32]:
        """Return the embeddings; raises ValueError if they are invalid."""
        numbers = np.frombuffer(base64.b64decode(self.embeddings, validate=True), np.float16)
        vectors = numbers.reshape(-1, LATENT_SIZE).astype(np.float32)
        if len(vectors) not in (1, 2) or not np.isfinite(vectors).all():
            raise ValueError("these are no embeddings of a query")
        return vectors


_TOKENS: Final = PageTokens("frames", TypeAdapter(_Following))


@dataclass(frozen=True, slots=True)
class Start:
    """Where a page begins in the ranking."""

    after: Place | None = None
    """The last hit of the previous page; None: the first page."""
    depth: int = 0
    """The depth of that page."""


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed request."""

    model: ModelVersion
    question: Question
    warning: str
    """Why it cannot have good results; empty for a good query."""
    start: Start
    chosen_by: str
    """Binds page tokens to this query."""

    def next_page_token(self, last: Place, depth: int) -> str:
        """Return the token of the page after the one that ends with `last`.

        It includes the query's embedding: if encoded again, its last digits could differ, and so
        could the ranking.
        """
        numbers = self.question.embeddings.astype(np.float16).tobytes()
        following = _Following(
            digest=self.model.digest,
            flat=bool(self.warning),
            embeddings=base64.b64encode(numbers).decode(),
            after=last,
            depth=depth,
        )
        return _TOKENS.token(following, self.chosen_by)


class Queries:
    """Parses SearchFrames requests."""

    def __init__(
        self,
        models: Models,
        inference: Inference,
        library: Library,
        film_latents: FilmLatents,
        pictures: Pictures,
    ) -> None:
        self._models = models
        self._inference = inference
        self._films = library.films
        self._latents = library.latents
        self._film_latents = film_latents
        self._storage_threads = library.threads
        self._pictures = pictures

    async def read(self, request: pb.SearchFramesRequest) -> Query:
        """Return a request's query; raises errors that name the invalid field."""
        # Unset reads as 0, which every hit reaches.
        if not 0 <= request.min_similarity <= 1:
            raise InvalidFieldError(
                "min_similarity",
                f"is {request.min_similarity:g}; must be from 0 to 1",
                reason="INVALID_MIN_SIMILARITY",
            )
        start, stop = time_range(request.range)
        chosen_by = _hash(request)
        following = _TOKENS.after(request.page_token, chosen_by)
        films = await self._film_latents.films(request.films, "films")
        if following is not None:
            model, embeddings, flat, begin = self._continued(following)
            own = await self._own(request, model) if request.HasField("moment") else None
        else:
            model, embeddings, flat, own = await self._asked(request)
            begin = Start()
        question = Question(
            model.digest,
            unit(embeddings.astype(np.float16).astype(np.float32)),
            films,
            start,
            stop,
            float(request.min_similarity),
            own,
        )
        return Query(model, question, FLAT if flat else "", begin, chosen_by)

    async def _asked(
        self, request: pb.SearchFramesRequest
    ) -> tuple[ModelVersion, NDArray[np.float32], bool, tuple[str, str, int] | None]:
        """Return the model, the query's embeddings [Q, 200], whether it is flat, and its frame."""
        match request.WhichOneof("query"):
            case "frame":
                model = messages.resolve(self._models, request.model)
                embeddings, flat = await self._of_picture(model, request.frame)
                return model, embeddings, flat, None
            case "latent":
                model = messages.resolve_for(
                    self._models,
                    request.latent,
                    request.model,
                    field="model",
                    latent_field="latent",
                )
                latent = messages.latent(request.latent, "latent")
                embeddings = await self._inference.embed(model, latent[np.newaxis], patient=False)
                decoded = await self._inference.decode(model, latent[np.newaxis], patient=False)
                flat = bool(is_flat(frame_detail(decoded.frames))[0])
                return model, embeddings, flat, None
            case "moment":
                film = await self._film_latents.film(request.moment.film, "moment.film")
                manifest = await self._film_latents.chosen(film, request.model)
                model = self._models.resolve(digest=manifest.model.digest)
                film_id, uid, row = await self._own(request, model)
                rows = await self._storage_threads.run(
                    self._latents.embeddings, manifest, row, row + 1
                )
                detail = await self._storage_threads.run(
                    self._latents.detail, manifest, row, row + 1
                )
                return model, rows, bool(is_flat(detail)[0]), (film_id, uid, row)
            case _:
                raise InvalidFieldError(
                    "query", "is missing; set frame, latent or moment", reason="QUERY_REQUIRED"
                )

    async def _of_picture(
        self, model: ModelVersion, frame: autoencoder_pb2.Frame
    ) -> tuple[NDArray[np.float32], bool]:
        """Return a picture's embeddings, with and without its bars, and whether it is flat."""
        surveyed = await self._pictures.survey(frame, "frame")
        encoded = await self._inference.encode(model, surveyed.frames, patient=False)
        return encoded.embeddings, bool(is_flat(np.array(surveyed.detail, np.float32)))

    async def _own(
        self, request: pb.SearchFramesRequest, model: ModelVersion
    ) -> tuple[str, str, int]:
        """Return the frame that is shown at the request's time."""
        film = await self._film_latents.film(request.moment.film, "moment.film")
        manifest = await self._film_latents.of_digest(film, model.digest)
        seconds = seconds_of(request.moment.time, "moment.time")
        row = await self._storage_threads.run(self._latents.row_at, manifest, seconds)
        return film.id, film.uid, row

    def _continued(
        self, following: _Following
    ) -> tuple[ModelVersion, NDArray[np.float32], bool, Start]:
        """Return the query of the previous page, and where the next one begins."""
        try:
            embeddings = following.vectors()
        except ValueError:
            raise refused_token() from None
        model = self._models.resolve(digest=following.digest)
        return model, embeddings, following.flat, Start(Place(*following.after), following.depth)


def time_range(range: pb.TimeRange) -> tuple[Fraction | None, Fraction | None]:
    """Return a request's time range in seconds; raises InvalidFieldError."""
    start = stop = None
    if range.HasField("start_time"):
        start = seconds_of(range.start_time, "range.start_time")
        if start < 0:
            raise InvalidFieldError("range.start_time", "is negative", reason="INVALID_TIME_RANGE")
    if range.HasField("end_time"):
        stop = seconds_of(range.end_time, "range.end_time")
        if stop <= (start or 0):
            raise InvalidFieldError(
                "range.end_time", "must be later than range.start_time", reason="INVALID_TIME_RANGE"
            )
    return start, stop


def _hash(request: pb.SearchFramesRequest) -> str:
    """Return a hash of everything that determines a request's hits, without the page fields."""
    chosen = pb.SearchFramesRequest()
    chosen.CopyFrom(request)
    for field in ("page_size", "page_token", "skip", "include_previews"):
        chosen.ClearField(field)
    return hashlib.sha256(chosen.SerializeToString(deterministic=True)).hexdigest()
