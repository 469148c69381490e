"""The main program of a film process: reads the film, and writes its reconstruction.

The service sends requests on two sockets, one for each half, and each half has a thread, so that
decoding and encoding overlap. Source pictures and sound pass between them and never leave the
process.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from film.clip_survey import ClipSurvey
from film.errors import FilmError, FilmLimitError
from film.letterbox import Bars
from film.limits import ReadLimits
from film.output import OutputSettings, picture_size, settings_from_json
from film.process.channel import Bounds, Buffer, ChannelClosedError, ChildChannel
from film.process.frame_slots import SLOT_FRAMES, FrameSlots
from film.process.incoming import GrowingFile, IncomingFile, StoredFile
from film.process.preload import preload
from film.process.protocol import (
    BATCH_PICTURE_BYTES,
    CUBE_BYTES,
    MAX_ERROR_CHARACTERS,
    Kind,
    facts_to_json,
)
from film.quality import frame_detail
from film.read.batch import FilmBatch
from film.read.clip import clip_frames, survey_clip
from film.read.colour_cube import CUBE_SHAPE, Cube, shipped_cubes
from film.read.film_reader import FilmReader
from film.segments import ResumeError, ResumePoint, Segment
from film.write.film_writer import FilmWriter
from film.write.segment_writer import SegmentWriter
from film.write.sequence import SequenceWriter

preload(av)
shipped_cubes()

Answer = tuple[dict[str, Any], list[Buffer]]
"""The answer to a request: JSON, and raw bytes."""


def main(descriptors: Sequence[int]) -> None:
    """Serve one film: `descriptors` are the three sockets, the shared frames, and the spool."""
    reading, writing, bytes_in = (
        ChildChannel(socket.socket(fileno=descriptor)) for descriptor in descriptors[:3]
    )
    slots = FrameSlots.attach(descriptors[3])
    os.close(descriptors[3])
    film = _Film(slots, reading, bytes_in, descriptors[4] if len(descriptors) > 4 else None)
    writer = threading.Thread(target=_serve, args=(writing, film.write_half()), daemon=True)
    writer.start()
    _serve(reading, film.read_half())


def _serve(channel: ChildChannel, requests: dict[int, Callable[[dict[str, Any]], Answer]]) -> None:
    """Answer requests one at a time until the other end closes."""
    while True:
        try:
            message = channel.receive(Bounds())
        except ChannelClosedError:
            return
        began = time.monotonic()
        try:
            fields, payload = requests[message.kind](message.fields())
        except ChannelClosedError:
            return
        except BaseException as error:
            channel.send(Kind.FAILED, _error(error))
            continue
        fields["seconds"] = time.monotonic() - began
        channel.send(Kind.DONE, fields, *payload)


def _error(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON; an unexpected one with its origin."""
    if isinstance(error, FilmError | ResumeError):
        message = str(error)
    else:
        message = traceback.format_exc()[-MAX_ERROR_CHARACTERS:]
    return {
        "error": "MemoryError" if isinstance(error, MemoryError) else type(error).__name__,
        "message": message[:MAX_ERROR_CHARACTERS],
        "limit": error.limit if isinstance(error, FilmLimitError) else "",
    }


class _Film:
    """The film that this process serves."""

    def __init__(
        self,
        slots: FrameSlots,
        reading: ChildChannel,
        bytes_in: ChildChannel,
        spool: int | None,
    ) -> None:
        self._slots = slots
        self._reading = reading
        self._bytes_in = bytes_in
        self._spool = spool
        self._file: IncomingFile
        self._limits: ReadLimits
        self._reader: FilmReader | None = None
        self._batches: Iterator[FilmBatch] = iter(())
        self._with_detail = False
        self._unwritten: dict[int, FilmBatch] = {}
        """Batches sent to the service whose reconstruction has not arrived yet, by number."""
        self._read = 0
        self._survey: ClipSurvey
        self._clip: Iterator[NDArray[np.uint8]] = iter(())
        self._writer: _Writer

    def read_half(self) -> dict[int, Callable[[dict[str, Any]], Answer]]:
        """Return the handlers of read requests."""
        return {
            Kind.OPEN: self._open,
            Kind.NEXT: self._next,
            Kind.SURVEY: self._survey_clip,
            Kind.CLIP: self._begin_clip,
            Kind.NEXT_OF_CLIP: self._next_of_clip,
        }

    def write_half(self) -> dict[int, Callable[[dict[str, Any]], Answer]]:
        """Return the handlers of write requests."""
        return {
            Kind.BEGIN_STREAM: self._begin_stream,
            Kind.BEGIN_SEGMENTS: self._begin_segments,
            Kind.BEGIN_SEQUENCE: self._begin_sequence,
            Kind.WRITE: self._write,
            Kind.CLOSE: self._close,
        }

    # Reading.

    def _set_source(self, request: dict[str, Any]) -> None:
        size = request["size"]
        self._limits = ReadLimits(**request["limits"])
        if self._spool is not None:
            self._file = GrowingFile(self._bytes_in, self._spool)
        else:
            self._file = StoredFile(self._bytes_in, size)

    def _open(self, request: dict[str, Any]) -> Answer:
        self._set_source(request)
        settings = settings_from_json(request["output"])
        resume = request["resume"]
        reader = self._reader = FilmReader(
            self._file,
            limits=self._limits,
            picture_size=lambda facts: picture_size(facts, settings),
            sound=settings.sound,
            segmented=request["segmented"],
            resume=ResumePoint.from_json(resume) if resume is not None else None,
            cubes=self._cube,
        )
        self._with_detail = request["segmented"]
        size = picture_size(reader.facts, settings)
        self._batches = reader.batches(_batch_frames(size))
        return {"facts": facts_to_json(reader.facts), **self._waited()}, []

    def _next(self, request: dict[str, Any]) -> Answer:
        batch = next(self._batches, None)
        if batch is None:
            return {"end": True, **self._waited()}, []
        number, self._read = self._read, self._read + 1
        self._unwritten[number] = batch
        self._slots.copy_in(request["slot"], batch.frames)
        payload: list[Buffer] = [batch.pts.tobytes(), batch.durations.tobytes()]
        if self._with_detail:
            payload.append(frame_detail(batch.frames).tobytes())
        fields = {"number": number, "count": len(batch.pts), **self._waited()}
        return fields, payload

    def _survey_clip(self, request: dict[str, Any]) -> Answer:
        self._set_source(request)
        survey = self._survey = survey_clip(self._file, self._limits, self._tell_progress)
        return {
            "time_base": str(survey.time_base),
            "origin_pts": survey.origin_pts,
            "duration": str(survey.duration),
            "chosen": survey.chosen,
            "bars": asdict(survey.bars),
            **self._waited(),
        }, []

    def _tell_progress(self, seconds: Fraction) -> None:
        self._reading.send(Kind.PROGRESS, {"film_seconds": float(seconds)})

    def _begin_clip(self, request: dict[str, Any]) -> Answer:
        self._file.seek(0)
        self._clip = clip_frames(
            self._file,
            self._survey,
            Bars(**request["bars"]),
            SLOT_FRAMES,
            limits=self._limits,
            cubes=self._cube,
        )
        return self._waited(), []

    def _next_of_clip(self, request: dict[str, Any]) -> Answer:
        frames = next(self._clip, None)
        if frames is None:
            return {"end": True, **self._waited()}, []
        self._slots.copy_in(request["slot"], frames)
        return {"count": len(frames), **self._waited()}, [frame_detail(frames).tobytes()]

    def _waited(self) -> dict[str, float]:
        return {"waited": self._file.waited}

    def _cube(self, transfer: int, primaries: int) -> Cube:
        """Return a tone mapping table; one not shipped with the project is requested."""
        shipped = shipped_cubes().get((transfer, primaries))
        if shipped is not None:
            return shipped
        self._bytes_in.send(Kind.COLOUR_CUBE, {"transfer": transfer, "primaries": primaries})
        answer = self._bytes_in.receive(Bounds(payload_bytes=CUBE_BYTES))
        return np.frombuffer(answer.payload, np.uint16).reshape(CUBE_SHAPE)

    # Writing.

    def _begin_stream(self, request: dict[str, Any]) -> Answer:
        self._writer = _StreamWriter(self._opened, settings_from_json(request["output"]))
        return {}, []

    def _begin_segments(self, request: dict[str, Any]) -> Answer:
        resume = request["resume"]
        self._writer = _SegmentsWriter(
            self._opened,
            settings_from_json(request["output"]),
            ResumePoint.from_json(resume) if resume is not None else None,
        )
        return {}, []

    def _begin_sequence(self, request: dict[str, Any]) -> Answer:
        self._writer = _SequenceWriter(Fraction(request["frame_rate"]), request["frames"])
        return {}, []

    def _write(self, request: dict[str, Any]) -> Answer:
        batch = self._unwritten.pop(request["number"], None)
        return self._writer.write(batch, self._slots.copy_out(request["slot"], request["count"]))

    def _close(self, _: dict[str, Any]) -> Answer:
        return self._writer.close()

    @property
    def _opened(self) -> FilmReader:
        if self._reader is None:
            raise ValueError("no film is open")
        return self._reader


class _Writer(ABC):
    """Writes an output from batches."""

    def __init__(self) -> None:
        self.fresh: list[Buffer] = []
        """Bytes written and not yet returned."""

    def taken(self) -> list[Buffer]:
        """Return what was written since the last call."""
        taken = list(self.fresh)
        self.fresh.clear()
        return taken

    @abstractmethod
    def write(self, batch: FilmBatch | None, decoded: NDArray[np.uint8]) -> Answer:
        """Take a batch and the reconstruction of its pictures."""

    @abstractmethod
    def close(self) -> Answer:
        """Finish the output."""


class _StreamWriter(_Writer):
    """Writes one MP4, returned as it is made."""

    def __init__(self, reader: FilmReader, settings: OutputSettings) -> None:
        super().__init__()
        self._reader = reader
        self._writer = FilmWriter(self.fresh.append, reader.facts, reader.sound_streams, settings)

    def write(self, batch: FilmBatch | None, decoded: NDArray[np.uint8]) -> Answer:
        if batch is None:
            raise ValueError("no such batch was read")
        self._writer.write(batch, decoded)
        return {}, self.taken()

    def close(self) -> Answer:
        self._writer.close()
        return {"warnings": [*self._reader.warnings, *self._writer.warnings]}, self.taken()


class _SegmentsWriter(_Writer):
    """Writes whole segments of an MP4."""

    def __init__(
        self, reader: FilmReader, settings: OutputSettings, resume: ResumePoint | None
    ) -> None:
        super().__init__()
        self._reader = reader
        self._writer = SegmentWriter(reader.facts, reader.sound_streams, settings, resume)
        self._told_init = resume is not None

    def write(self, batch: FilmBatch | None, decoded: NDArray[np.uint8]) -> Answer:
        if batch is None:
            raise ValueError("no such batch was read")
        return self._answer(self._writer.write(batch, decoded))

    def close(self) -> Answer:
        return self._answer(self._writer.close(self._reader.warnings))

    def _answer(self, segments: list[Segment]) -> Answer:
        init = b""
        if segments and not self._told_init:
            self._told_init = True
            init = self._writer.init or b""
        told = [
            {
                "number": segment.number,
                "size": len(segment.data),
                "frames": segment.frames,
                "first_pts": segment.first_pts,
                "resume": segment.resume.to_json(),
            }
            for segment in segments
        ]
        return {"init_size": len(init), "segments": told}, [
            init,
            *(segment.data for segment in segments),
        ]


class _SequenceWriter(_Writer):
    """Writes pictures that do not come from a film."""

    def __init__(self, frame_rate: Fraction, frames: int) -> None:
        super().__init__()
        self._writer = SequenceWriter(self.fresh.append, frame_rate, frames)

    def write(self, batch: FilmBatch | None, decoded: NDArray[np.uint8]) -> Answer:
        self._writer.write(decoded)
        return {}, self.taken()

    def close(self) -> Answer:
        self._writer.close()
        return {"warnings": []}, self.taken()


def _batch_frames(size: tuple[int, int] | None) -> int:
    """Return the number of pictures per batch: smaller if large source pictures go with them."""
    if size is None:
        return SLOT_FRAMES
    width, height = size
    return max(1, min(SLOT_FRAMES, BATCH_PICTURE_BYTES // (width * height * 3)))
