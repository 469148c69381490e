"""SearchFrames: frames of the library that look like a picture."""

import asyncio
from collections.abc import Sequence

import numpy as np
from refilm.v1 import latents_pb2 as pb

from service import metrics
from service.errors import InvalidFieldError
from service.inference import MAX_BATCH, Inference, ModelVersion
from service.library.library import Library
from service.limit import Limit
from service.rpc import messages
from service.rpc.call import Context, current_call
from service.rpc.durations import duration
from service.rpc.names import film_name
from service.rpc.pages import page_size
from service.rpc.picture_calls import Pictures
from service.rpc.search_query import Queries
from service.search.engine import Hit, Search

DEFAULT_HITS = 10
MAX_HITS = 100
MAX_SKIP = 1000
"""Hits are ranked only among a few thousand candidates."""


class SearchCalls:
    """Handles SearchFrames."""

    def __init__(
        self,
        inference: Inference,
        library: Library,
        queries: Queries,
        search: Search,
        pictures: Pictures,
        limit: Limit,
    ) -> None:
        self._inference = inference
        self._latents = library.latents
        self._search = search
        self._storage_threads = library.threads
        self._pictures = pictures
        self._queries = queries
        self._limit = limit

    async def SearchFrames(
        self,
        request: pb.SearchFramesRequest,
        context: "Context[pb.SearchFramesRequest, pb.SearchFramesResponse]",
    ) -> pb.SearchFramesResponse:
        """Search the library for frames that look like the query."""
        size = page_size(request.page_size, DEFAULT_HITS, MAX_HITS)
        if not 0 <= request.skip <= MAX_SKIP:
            raise InvalidFieldError(
                "skip", f"is {request.skip}; must be from 0 to {MAX_SKIP}", reason="INVALID_SKIP"
            )
        with self._limit, metrics.SEARCH_SECONDS.labels("SearchFrames").time():
            query = await self._queries.read(request)
            current_call().model = query.model
            while True:
                page = await self._search.page(
                    query.question,
                    size,
                    skip=request.skip,
                    after=query.start.after,
                    depth=query.start.depth,
                )
                previews: Sequence[bytes] = [b""] * len(page.hits)
                if request.include_previews and page.hits:
                    previews = await self._previews(query.model, page.hits)
                if not await self._search.find_deleted(hit.film for hit in page.hits):
                    break
        coverage = self._search.coverage(query.model.digest, query.question.films)
        current_call().frames = len(page.hits)
        return pb.SearchFramesResponse(
            hits=[_hit(*pair) for pair in zip(page.hits, previews, strict=True)],
            next_page_token=query.next_page_token(page.hits[-1].place, page.depth)
            if page.more
            else "",
            model=messages.model_identity(query.model),
            query_warning=query.warning,
            films_searched=coverage.searched,
            films_left_out=coverage.left_out,
        )

    async def _previews(self, model: ModelVersion, hits: Sequence[Hit]) -> list[bytes]:
        """Return the best hits' frames, reconstructed by the model, as JPEG."""
        rows = await asyncio.gather(
            *(
                self._storage_threads.run(
                    self._latents.latents, hit.manifest, hit.passage.best, hit.passage.best + 1
                )
                for hit in hits
            )
        )
        latents = np.concatenate(rows)
        previews: list[bytes] = []
        for start in range(0, len(latents), MAX_BATCH):
            decoded = await self._inference.decode(
                model, latents[start : start + MAX_BATCH], patient=False
            )
            previews += await self._pictures.files(decoded.frames, "jpeg")
        return previews


def _hit(hit: Hit, preview: bytes) -> pb.SearchHit:
    return pb.SearchHit(
        film=film_name(hit.film.id),
        title=hit.film.title,
        start_time=duration(hit.start),
        end_time=duration(hit.stop),
        best_time=duration(hit.best),
        similarity=hit.passage.similarity,
        preview=preview,
    )
