"""Writes the segments of one attempt at a rendition, each with its latents."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from film.segments import Segment
from service import metrics
from service.errors import DataLossError, ServiceError
from service.inference import ModelVersion
from service.library.latents import LatentsPart
from service.library.library import Library
from service.library.renditions import RenditionSegment
from service.library.segment_records import (
    SegmentFault,
    SegmentRecord,
    resume_digest,
)
from service.renditions.writes import Writes


@dataclass(frozen=True, slots=True)
class Rows:
    """The data stored for N frames besides their pictures."""

    pts: NDArray[np.int64]
    """[N], in the film's time base."""
    latents: NDArray[np.float32]
    """[N, 200]"""
    embeddings: NDArray[np.float32]
    """[N, 200]"""
    detail: NDArray[np.float32]
    """[N]"""


@dataclass(frozen=True, slots=True)
class Place:
    """The location of an attempt's objects."""

    film: str
    """The film's id."""
    rendition: str
    attempt: str


class RenditionWriter:
    """Writes the segments of one attempt, in order."""

    def __init__(
        self,
        library: Library,
        writes: Writes,
        place: Place,
        model: ModelVersion,
        *,
        before: SegmentRecord | None,
        keeps_latents: bool,
        may_go_on: Callable[[], Awaitable[None]],
        kept: Callable[[SegmentRecord, bytes], Awaitable[None]],
    ) -> None:
        """Continue after `before`.

        Args:
            library: the library.
            writes: for calls to the store.
            place: the location in the library.
            model: the model of the latents.
            before: the last finished segment; None: start from the beginning.
            keeps_latents: False if the film's latents of this model are complete.
            may_go_on: raises if the work must stop; called before each segment is committed.
            kept: called with each committed segment and its bytes.
        """
        self._library = library
        self._writes = writes
        self._place = place
        self._model = model
        self._before = before
        self._init = before.init if before is not None else None
        self._may_go_on = may_go_on
        self._kept = kept
        self.keeps_latents = keeps_latents
        self.init_data = b""
        """The header, if this attempt made it."""

    async def keep(
        self, segment: Segment, rows: Rows, init: bytes | None, fault: ServiceError | None
    ) -> None:
        """Write the next segment; `init` is the header, if this attempt made it."""
        place, records = self._place, self._library.records
        if self._init is None:
            if init is None:
                raise ValueError("the first segment comes without a header")
            self._init = await self._writes.with_retries(
                records.write_init, place.film, place.rendition, place.attempt, init
            )
            self.init_data = init
        part, stored = await asyncio.gather(
            self._write_latents(segment.number, rows), self._write_bytes(segment)
        )
        record = SegmentRecord(
            number=segment.number,
            segment=stored,
            init=self._init,
            latents=part,
            begins=resume_digest(self._before.resume) if self._before is not None else "",
            resume=segment.resume,
            fault=SegmentFault(fault.reason, fault.message)
            if isinstance(fault, DataLossError)
            else None,
        )
        await self._may_go_on()
        await self._writes.with_retries(records.write, record)
        self._before = record
        metrics.SEGMENTS.labels(self._model.name, str(self._model.version), "made").inc()
        await self._kept(record, segment.data)

    async def _write_latents(self, number: int, rows: Rows) -> LatentsPart | None:
        if not self.keeps_latents:
            return None
        return await self._writes.with_retries(
            self._library.latents.write_part,
            self._place.film,
            self._model.digest,
            self._place.attempt,
            number,
            latents=rows.latents,
            embeddings=rows.embeddings,
            pts=rows.pts,
            detail=rows.detail,
        )

    async def _write_bytes(self, segment: Segment) -> RenditionSegment:
        return await self._writes.with_retries(
            self._library.records.write_segment,
            self._place.film,
            self._place.rendition,
            self._place.attempt,
            segment.number,
            segment.data,
            frames=segment.frames,
            first_pts=segment.first_pts,
        )
