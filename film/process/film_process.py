"""The service's handle on a film process.

    async with processes.film(source) as film:
        facts = await film.open(settings)
        await film.begin_stream(settings)
        while (batch := await film.next()) is not None:
            written = await film.write(batch, decoded)
        written = await film.close()

The process is killed when the block ends, for whatever reason. Several
batches may be read before the first is written; they are written in order.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from film.clip_survey import MOST_SAMPLES, ClipSurvey
from film.errors import FilmCrashedError
from film.facts import FilmFacts
from film.letterbox import Bars
from film.limits import FilmLimits, ReadLimits
from film.output import OutputSettings, settings_to_json
from film.process.answers import Answer, unpack_numbers
from film.process.bytes_out import BytesOut, FilmBytes, GrowingBytes, StoredBytes
from film.process.channel import Bounds, ChannelClosedError, ChannelError, Message, ServiceChannel
from film.process.cubes import ColourCubes
from film.process.frame_slots import SLOT_FRAMES, FrameSlots
from film.process.protocol import FILM_MAIN, Kind
from film.process.spawner import Spawner
from film.process.supervised import SupervisedChild
from film.process.written import Written, written_segments
from film.segments import ResumePoint

SLOTS = 6
"""Maximum number of batches read and not yet written."""

_BATCH_BOUNDS = Bounds(payload_bytes=SLOT_FRAMES * (8 + 8 + 4))
_OUTPUT_BOUNDS = Bounds(json_bytes=4 << 20, payload_bytes=1 << 30)
_NO_DETAIL = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Consecutive pictures of a film, in presentation order; none if only sound was read."""

    frames: NDArray[np.uint8]
    """Model frames, [N, 144, 256, 3] RGB."""
    pts: NDArray[np.int64]
    """Presentation times in the film's time base, [N], strictly increasing across batches."""
    durations: NDArray[np.int64]
    """Each picture's duration in the film's time base, [N]; 0 if the film does not say."""
    detail: NDArray[np.float32]
    """The detail of each, [N], as defined by `film.quality.frame_detail`; empty if the film is
    not read in segments."""
    number: int = 0
    slot: int = 0


class FilmProcesses:
    """Starts film processes."""

    def __init__(self, spawner: Spawner, limits: FilmLimits) -> None:
        self._spawner = spawner
        self._limits = limits
        self._cubes = ColourCubes(spawner)

    @asynccontextmanager
    async def film(self, source: FilmBytes | None = None) -> AsyncIterator[FilmProcess]:
        """Start a process for a film, which ends with the block.

        Args:
            source: the film's bytes; None if no film is read.

        Raises:
            FilmProcessLostError: no process can be started.
        """
        async with AsyncExitStack() as ends:
            slots, memory = FrameSlots.create(SLOTS)
            ends.callback(slots.close)
            pairs = [socket.socketpair() for _ in range(3)]
            channels = []
            for ours, _ in pairs:
                channels.append(ServiceChannel(ours))
                ends.callback(channels[-1].close)
            descriptors = [theirs.fileno() for _, theirs in pairs] + [memory]
            if isinstance(source, GrowingBytes):
                descriptors.append(source.descriptor)
            try:
                child = await SupervisedChild.start(
                    self._spawner, FILM_MAIN, descriptors, self._limits
                )
            finally:
                os.close(memory)
                for _, theirs in pairs:
                    theirs.close()
            ends.push_async_callback(child.end)
            out = BytesOut(channels[2], source, self._cubes)
            size = source.size if isinstance(source, StoredBytes) else None
            film = FilmProcess(child, channels, slots, out, size, self._limits.read)
            serving = asyncio.ensure_future(film.serve_bytes())
            ends.push_async_callback(_cancelled, serving)
            yield film


class FilmProcess:
    """One film; one coroutine reads and one writes at a time.

    Every method raises FilmError as the reader and the writers do, FilmLimitError, FilmCrashedError
    and FilmProcessLostError, UnexpectedError for a bug, and what the source of bytes raises.
    """

    def __init__(
        self,
        child: SupervisedChild,
        channels: Sequence[ServiceChannel],
        slots: FrameSlots,
        out: BytesOut,
        size: int | None,
        limits: ReadLimits,
    ) -> None:
        self._child = child
        self._out = out
        child.waits_for_bytes = lambda: out.waiting_since is not None
        self._reading, self._writing, _ = channels
        self._slots = slots
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(slots.count):
            self._free.put_nowait(slot)
        self._source_fields = {"size": size, "limits": asdict(limits)}
        self._time_base = Fraction(0)
        self._first_pts: int | None = None
        self._begins = 0.0
        """Seconds of the film that another process read before."""
        self._numbered = 0
        self._with_detail = False
        self.read_seconds = 0.0
        """Time spent reading, excluding waits for bytes."""
        self.write_seconds = 0.0
        """Time spent writing."""
        self._waited = 0.0

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for the film's bytes (`time.monotonic`); None if it does not."""
        return self._out.waiting_since

    async def serve_bytes(self) -> None:
        """Serve the process's requests for bytes, as long as it runs."""
        try:
            await self._out.serve()
        except ChannelClosedError:
            pass  # Reported to the caller that waits for an answer.
        except ChannelError:
            self._broken()
        except Exception as error:
            self._child.fail(error)

    # Reading.

    async def open(
        self,
        output: OutputSettings,
        *,
        segmented: bool = False,
        resume: ResumePoint | None = None,
    ) -> FilmFacts:
        """Open the film, to be read for an output; return its facts.

        Args:
            output: the output's settings, which determine what is read besides model frames.
            segmented: whether batches end where segments do.
            resume: where to resume, after whole segments.
        """
        self._begins = float(resume.position) if resume is not None else 0.0
        self._child.film_seconds = self._begins
        self._with_detail = segmented
        answer, _ = await self._read(
            Kind.OPEN,
            {
                **self._source_fields,
                "output": settings_to_json(output),
                "segmented": segmented,
                "resume": resume.to_json() if resume is not None else None,
            },
        )
        with self._checked():
            facts = answer.inner("facts").facts()
        self._time_base = facts.time_base
        return facts

    async def next(self) -> FrameBatch | None:
        """Return the next batch, None at the film's end; waits while too many are unwritten.

        Everything that can be decoded is returned before an error is raised.
        """
        slot = await self._free.get()
        answer, payload = await self._read(Kind.NEXT, {"slot": slot}, _BATCH_BOUNDS)
        if answer.has("end"):
            self._free.put_nowait(slot)
            return None
        with self._checked():
            count = answer.integer("count", 0, SLOT_FRAMES)
            number = answer.integer("number", self._numbered, self._numbered)
            kinds: list[tuple[type[np.generic], int]] = [(np.int64, count), (np.int64, count)]
            if self._with_detail:
                kinds.append((np.float32, count))
            pts, durations, *detail = unpack_numbers(payload, kinds)
        self._numbered += 1
        self._note_position(pts)
        return FrameBatch(
            frames=self._slots.copy_out(slot, count),
            pts=pts,
            durations=durations,
            detail=detail[0] if detail else _NO_DETAIL,
            number=number,
            slot=slot,
        )

    async def survey(self) -> ClipSurvey:
        """Survey a clip to match."""
        answer, _ = await self._read(Kind.SURVEY, self._source_fields)
        with self._checked():
            return answer.survey()

    async def clip(
        self, bars: Bars
    ) -> AsyncGenerator[tuple[NDArray[np.uint8], NDArray[np.float32]], None]:
        """Read a surveyed clip again, without bars.

        Yields the chosen pictures as model frames, [N, 144, 256, 3], and their detail, [N].
        """
        await self._read(Kind.CLIP, {"bars": asdict(bars)})
        slot = 0
        for _ in range(MOST_SAMPLES + 1):
            answer, payload = await self._read(Kind.NEXT_OF_CLIP, {"slot": slot}, _BATCH_BOUNDS)
            if answer.has("end"):
                return
            with self._checked():
                count = answer.integer("count", 1, SLOT_FRAMES)
                (detail,) = unpack_numbers(payload, [(np.float32, count)])
            yield self._slots.copy_out(slot, count), detail
        raise self._broken()

    # Writing.

    async def begin_stream(self, output: OutputSettings) -> None:
        """Begin to write one MP4 of the open film."""
        await self._write(Kind.BEGIN_STREAM, {"output": settings_to_json(output)})

    async def begin_segments(self, output: OutputSettings, resume: ResumePoint | None) -> None:
        """Begin to write segments of the open film; resume after `resume`."""
        fields = {
            "output": settings_to_json(output),
            "resume": resume.to_json() if resume is not None else None,
        }
        await self._write(Kind.BEGIN_SEGMENTS, fields)

    async def begin_sequence(self, frame_rate: Fraction, frames: int) -> None:
        """Begin to write an MP4 of evenly timed pictures that do not come from a film."""
        fields = {"frame_rate": str(frame_rate), "frames": frames}
        await self._write(Kind.BEGIN_SEQUENCE, fields)

    async def write(self, batch: FrameBatch, decoded: NDArray[np.uint8]) -> Written:
        """Write the reconstruction of a batch, [N, 144, 256, 3] RGB."""
        self._slots.copy_in(batch.slot, decoded)
        fields = {"number": batch.number, "slot": batch.slot, "count": len(decoded)}
        written = await self._written(Kind.WRITE, fields)
        self._free.put_nowait(batch.slot)
        return written

    async def write_frames(self, frames: NDArray[np.uint8]) -> Written:
        """Write the next pictures of a sequence, [N, 144, 256, 3] RGB."""
        data = bytearray()
        for start in range(0, len(frames), SLOT_FRAMES):
            part = frames[start : start + SLOT_FRAMES]
            self._slots.copy_in(0, part)
            fields = {"number": -1, "slot": 0, "count": len(part)}
            data += (await self._written(Kind.WRITE, fields)).data
        return Written(bytes(data))

    async def close(self) -> Written:
        """Write what is left and finish the output."""
        return await self._written(Kind.CLOSE, {})

    async def _written(self, kind: Kind, fields: dict[str, Any]) -> Written:
        answer, payload = await self._write(kind, fields)
        self._child.count_output(len(payload))
        with self._checked():
            warnings = answer.warnings() if answer.has("warnings") else ()
            if not answer.has("segments"):
                return Written(bytes(payload), warnings=warnings)
            return written_segments(answer, memoryview(payload), warnings)

    def _note_position(self, pts: NDArray[np.int64]) -> None:
        if len(pts):
            if self._first_pts is None:
                self._first_pts = int(pts[0])
            read = (int(pts[-1]) - self._first_pts) * self._time_base
            self._child.film_seconds = max(self._child.film_seconds, self._begins + float(read))

    # Requests.

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Parse an answer in this block; an invalid one ends the process."""
        try:
            yield
        except ChannelError:
            raise self._broken() from None

    async def _read(
        self, kind: Kind, fields: dict[str, Any], bounds: Bounds | None = None
    ) -> tuple[Answer, bytearray]:
        answer, payload = await self._ask(self._reading, kind, fields, bounds or Bounds())
        with self._checked():
            waited = answer.seconds("waited")
            self.read_seconds += max(0.0, answer.seconds("seconds") - (waited - self._waited))
            self._waited = waited
        return answer, payload

    async def _write(self, kind: Kind, fields: dict[str, Any]) -> tuple[Answer, bytearray]:
        answer, payload = await self._ask(self._writing, kind, fields, _OUTPUT_BOUNDS)
        with self._checked():
            self.write_seconds += answer.seconds("seconds")
        return answer, payload

    async def _ask(
        self, channel: ServiceChannel, kind: Kind, fields: dict[str, Any], bounds: Bounds
    ) -> tuple[Answer, bytearray]:
        self._child.owes_answer += 1
        try:
            await channel.send(kind, fields)
            message = await self._answer(channel, bounds)
            answer = Answer.of(message.data)
            if message.kind == Kind.FAILED:
                raise self._error(answer)
            if message.kind != Kind.DONE:
                raise ChannelError("an answer is of an unknown kind")
            return answer, message.payload
        except ChannelClosedError:
            raise await self._child.why_ended() from None
        except ChannelError:
            raise self._broken() from None
        finally:
            self._child.owes_answer -= 1

    async def _answer(self, channel: ServiceChannel, bounds: Bounds) -> Message:
        """Return the answer, after any progress messages."""
        while (message := await channel.receive(bounds)).kind == Kind.PROGRESS:
            self._child.film_seconds = Answer.of(message.data).seconds("film_seconds")
        return message

    def _error(self, answer: Answer) -> Exception:
        if answer.word("error") == "MemoryError":
            return self._child.over_memory()
        return answer.error()

    def _broken(self) -> Exception:
        """Kill a process that violated the protocol, and return the error to raise."""
        error = FilmCrashedError("the film's process went astray")
        self._child.fail(error)
        return error


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
