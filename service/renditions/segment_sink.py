"""The output of a film that is kept: whole segments, handed to an attempt one by one."""

import asyncio
from collections import deque
from typing import cast

import numpy as np

from film.output import OutputSettings
from film.quality import frame_detail
from film.read.batch import FilmBatch
from film.read.film_reader import FilmReader
from film.segments import ResumePoint, Segment
from film.write.segment_writer import SegmentWriter
from service.errors import ServiceError
from service.pipeline.model_output import ModelOutput
from service.pipeline.serial_executor import SerialExecutor
from service.pipeline.stats import Stats
from service.renditions.rendition_writer import RenditionWriter, Rows

SEGMENTS_WAITING = 1
"""Segments that wait to be kept while the next one is made."""


class SegmentSink:
    """Makes segments of what was decoded; an `Output`. They are kept while the next is made."""

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
        self._writing = SerialExecutor("film-write")
        self._writer: SegmentWriter | None = None
        self._rows = _Rows()
        self._whole: asyncio.Queue[tuple[Segment, Rows, ServiceError | None] | None]
        self._whole = asyncio.Queue(SEGMENTS_WAITING)
        self._keeping: asyncio.Task[None]

    @property
    def seconds(self) -> float:
        """How long the writer was busy."""
        return self._writing.seconds

    @property
    def is_full(self) -> bool:
        """Whether segments wait to be kept."""
        return self._whole.full()

    async def open(self, reader: FilmReader, stages: asyncio.TaskGroup) -> None:
        """Begin the output."""
        await self._writing.run(self._open_writer, reader)
        self._keeping = stages.create_task(self._keep())

    def _open_writer(self, reader: FilmReader) -> None:
        self._writer = SegmentWriter(
            reader.facts, reader.sound_streams, self._settings, self._resume
        )

    async def write(self, batch: FilmBatch, passed: ModelOutput) -> None:
        """Put the next pictures into the output."""
        segments = await self._writing.run(self._write, batch, passed)
        self._stats.wrote(batch)
        for segment in segments:
            await self._whole.put((segment, self._rows.take(segment.frames), None))

    def _write(self, batch: FilmBatch, passed: ModelOutput) -> list[Segment]:
        if len(batch.pts):
            self._rows.push(
                Rows(batch.pts, passed.latents, passed.embeddings, frame_detail(batch.frames))
            )
        return cast(SegmentWriter, self._writer).write(batch, passed.frames)

    async def close(self, reader: FilmReader, fault: ServiceError | None) -> None:
        """End the last segment, and wait until all are kept."""
        writer = cast(SegmentWriter, self._writer)
        segments = await self._writing.run(writer.close, reader.warnings)
        for segment in segments:
            rows = self._rows.take(segment.frames)
            await self._whole.put((segment, rows, fault if segment.resume.ended else None))
        await self._whole.put(None)
        await self._keeping

    async def _keep(self) -> None:
        while (entry := await self._whole.get()) is not None:
            segment, rows, fault = entry
            init = cast(SegmentWriter, self._writer).init
            await self._attempt.keep(segment, rows, init, fault)

    def tick(self) -> None:
        """Do nothing: who watches looks at the job."""

    async def release(self) -> None:
        """End the writer's thread; give up what it has not finished."""
        await self._writing.end(self._end_writer)

    def _end_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()  # Without effect on one that was closed.


class _Rows:
    """Rows of frames that are in no whole segment yet."""

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
