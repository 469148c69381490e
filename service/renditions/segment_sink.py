"""The output of a job: segments, passed to the rendition writer one at a time."""

import asyncio
from collections import deque

import numpy as np

from film.facts import FilmFacts
from film.output import OutputSettings
from film.process.film_process import FilmProcess, FrameBatch
from film.process.written import Written
from film.segments import ResumePoint, Segment
from service.errors import ServiceError
from service.pipeline.model_output import ModelOutput
from service.pipeline.stats import Stats
from service.renditions.rendition_writer import RenditionWriter, Rows

SEGMENTS_WAITING = 1
"""Maximum number of finished segments waiting to be written."""


class SegmentSink:
    """Makes segments from decoded frames; an `Output`. Writes one while the next is made."""

    def __init__(
        self,
        settings: OutputSettings,
        stats: Stats,
        attempt: RenditionWriter,
        resume: ResumePoint | None,
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._attempt = attempt
        self._resume = resume
        self._film: FilmProcess
        self._rows = _Rows()
        self._whole: asyncio.Queue[tuple[Segment, Rows, bytes | None, ServiceError | None] | None]
        self._whole = asyncio.Queue(SEGMENTS_WAITING)
        self._keeping: asyncio.Task[None]

    @property
    def is_full(self) -> bool:
        """Whether segments are waiting to be written."""
        return self._whole.full()

    async def open(self, film: FilmProcess, facts: FilmFacts, stages: asyncio.TaskGroup) -> None:
        """Start the output."""
        self._film = film
        await film.begin_segments(self._settings, self._resume)
        self._keeping = stages.create_task(self._keep())

    async def write(self, batch: FrameBatch, output: ModelOutput) -> None:
        """Write the next pictures."""
        if len(batch.pts):
            self._rows.push(Rows(batch.pts, output.latents, output.embeddings, batch.detail))
        written = await self._film.write(batch, output.frames)
        self._stats.wrote(batch)
        await self._put_segments(written, None)

    async def close(self, fault: ServiceError | None) -> None:
        """Finish the last segment, and wait until all are written."""
        await self._put_segments(await self._film.close(), fault)
        await self._whole.put(None)
        await self._keeping

    async def _put_segments(self, written: Written, fault: ServiceError | None) -> None:
        init = written.init
        for segment in written.segments:
            rows = self._rows.take(segment.frames)
            last = segment.resume.ended
            await self._whole.put((segment, rows, init, fault if last else None))
            init = None

    async def _keep(self) -> None:
        while (entry := await self._whole.get()) is not None:
            await self._attempt.keep(*entry)

    def tick(self) -> None:
        """Do nothing: watchers read the job's state."""


class _Rows:
    """Rows of frames that are not in a finished segment yet."""

    def __init__(self) -> None:
        self._batches: deque[Rows] = deque()

    def push(self, rows: Rows) -> None:
        self._batches.append(rows)

    def take(self, count: int) -> Rows:
        """Return the first `count` rows."""
        taken = []
        while count:
            first = self._batches.popleft()
            if len(first.pts) > count:
                self._batches.appendleft(_part(first, slice(count, None)))
                first = _part(first, slice(0, count))
            count -= len(first.pts)
            taken.append(first)
        return Rows(
            np.concatenate([rows.pts for rows in taken]),
            np.concatenate([rows.latents for rows in taken]),
            np.concatenate([rows.embeddings for rows in taken]),
            np.concatenate([rows.detail for rows in taken]),
        )


def _part(rows: Rows, which: slice) -> Rows:
    return Rows(rows.pts[which], rows.latents[which], rows.embeddings[which], rows.detail[which])
