"""Reads a film: pictures as model frames with their times, and the sound among them.

Open a `FilmReader` on the film's bytes, read its `facts`, and iterate over its `batches`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self, TypeAlias
from zlib import crc32

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from film.errors import FilmError, FilmLimitError
from film.facts import FilmFacts
from film.limits import ReadLimits
from film.read.batch import BatchMaker, FilmBatch
from film.read.colour_cube import CubeSource, any_cube
from film.read.demuxer import SOUND_BATCH_BYTES, Demuxer
from film.read.pictures import Deinterlacer, Renderer, orientation_of
from film.read.timeline import PictureTimes
from film.segments import ReadingPoint, ResumeError, ResumePoint, SegmentPlan
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH

DEFAULT_LIMITS = ReadLimits()

PictureSize: TypeAlias = tuple[int, int] | Callable[[FilmFacts], tuple[int, int] | None] | None


class _Timed(NamedTuple):
    """A picture that is ready, with its time and duration in the film's time base."""

    shown: av.VideoFrame
    pts: int
    duration: int


class _Pair(NamedTuple):
    """A picture to display, and the stored one that it was made from."""

    shown: av.VideoFrame
    stored: av.VideoFrame


class FilmReader:
    """Reads one film; opened, used and closed on one thread.

    Opening decodes the first picture, so a film without pictures is refused at once.
    """

    def __init__(
        self,
        file: BinaryIO | io.RawIOBase,
        *,
        limits: ReadLimits = DEFAULT_LIMITS,
        picture_size: PictureSize = None,
        sound: bool = True,
        segmented: bool = False,
        resume: ResumePoint | None = None,
        cubes: CubeSource = any_cube,
    ) -> None:
        """Open a film.

        Args:
            file: its bytes, seekable; may still be arriving. It is not closed.
            limits: limits on the film.
            picture_size: width and height of pictures wanted beside the model frames, or a function
                that returns them from the facts.
            sound: whether sound packets are wanted.
            segmented: whether batches mark where segments begin, and never cross that.
            resume: resume after whole segments (implies `segmented`): all sound from the film's
                beginning, which a resumed `SegmentWriter` sorts out, then the pictures as in an
                uninterrupted reading. Batches of sound alone come first.
            cubes: the source of the tone mapping tables.

        Raises:
            NotAFilmError: no film can be read from the bytes.
            NoPictureError: it has no moving picture.
            TruncatedFilmError: it is truncated before its first picture.
            DamagedFilmError: none of its pictures can be decoded.
            FilmLimitError: its pictures are too large.
            ResumeError: the film has ended at the resume point.
        """
        if resume is not None and resume.reading is None:
            raise ResumeError("the film has ended at this point")
        self.warnings: list[str] = []
        self._file = file
        self._limits = limits
        self._sound = sound
        self._point = resume.reading if resume is not None else None
        self._film = Demuxer(file, limits, sound=sound)
        self._given_up: Demuxer | None = None
        self._sound_given = 0
        self._sound_to_drop = 0
        self._deinterlacer = Deinterlacer()
        self._times = PictureTimes()
        self._first_pts: int | None = None
        self._timely = True
        """Whether every picture so far had a usable time of its own."""
        self._last: tuple[int, NDArray[np.uint8]] | None = None
        """The last picture's time and model frame."""
        self.facts: FilmFacts = self._film.facts
        """The film's facts."""
        self.sound_streams: tuple[AudioStream, ...] = self._film.sound_streams
        """The sound tracks that are not dropped, in the film's order."""
        self._plan: SegmentPlan | None = None
        if self._point is not None:
            self._plan = SegmentPlan(self.facts.time_base, self._point.finished)
        elif segmented:
            self._plan = SegmentPlan(self.facts.time_base)
        try:
            size = picture_size(self.facts) if callable(picture_size) else picture_size
            self._model = Renderer(MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT, cubes=cubes)
            self._large = Renderer(*size, cubes=cubes) if size is not None else None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the film's container; on the thread that opened it."""
        self._film.close()
        if self._given_up is not None:
            self._given_up.close()

    def batches(self, size: int) -> Iterator[FilmBatch]:
        """Yield the film, `size` pictures at a time; can be called once.

        Everything that can be decoded is yielded before an error is raised.

        Raises:
            TruncatedFilmError: the film is truncated.
            DamagedFilmError: it could not be decoded to its end.
            FilmLimitError: it holds more than allowed.
            ResumeError: it has no picture at the resume point.
        """
        batch = BatchMaker(size, self._large is not None)
        end: FilmError | None = None
        pictures = self._timed_pictures()
        while True:
            try:
                item = next(pictures)
            except StopIteration:
                break
            except FilmError as error:
                end = error
                break
            if item is not None:
                if self._plan is not None and self._plan.begins(item.pts):
                    if batch.count:
                        yield batch.take(self._take_sound())
                    batch.begin_segment(self._reading_point(item.pts, self._plan.begun - 1))
                self._add(batch, item)
                if batch.full:
                    yield batch.take(self._take_sound())
            if self._film.sound_bytes > SOUND_BATCH_BYTES:
                # Batches of pictures must not depend on the sound between them.
                yield batch.sound_alone(self._take_sound())
        rest = self._take_sound()
        if batch.count or rest:
            yield batch.take(rest)
        self._note_repairs()
        if end is not None:
            raise end

    def pictures(self) -> Iterator[tuple[av.VideoFrame, int, int]]:
        """Yield each picture as it is stored, deinterlaced, with its time and duration.

        For callers that render themselves, instead of `batches`; raises as it does.
        """
        for item in self._timed_pictures():
            if item is not None:
                yield item
            self._film.take_sound()

    def _add(self, batch: BatchMaker, picture: _Timed) -> None:
        turn = orientation_of(picture.shown)
        frame = self._model.render(picture.shown, turn)
        large = self._large.render(picture.shown, turn) if self._large is not None else None
        batch.add(frame, large, picture.pts, picture.duration)
        self._last = picture.pts, frame

    def _take_sound(self) -> list[av.Packet[AudioStream]]:
        sound = self._film.take_sound()
        dropped = min(self._sound_to_drop, len(sound))
        self._sound_to_drop -= dropped
        self._sound_given += len(sound) - dropped
        return sound[dropped:]

    def _timed_pictures(self) -> Iterator[_Timed | None]:
        """Yield the wanted pictures with their times; None if only sound was read."""
        point = self._point
        found = point is None
        pictures: Iterator[_Pair | None] | None = None
        if point is not None and self._film.jump(point.state.get("packet", 0)):
            pictures = self._deinterlaced(None)
            first = yield from self._after_jump(pictures, point)
            if first is not None:
                found = True
                yield first
            else:
                self._begin_again()
                pictures = None
        for pair in pictures or self._deinterlaced(self._film.first):
            timed = self._timed(pair) if pair is not None else None
            found = found or (timed is not None and point is not None and timed.pts >= point.pts)
            yield timed if found else None
        if not found:
            raise ResumeError("the film ends before the picture where it shall be read on")

    def _timed(self, pair: _Pair) -> _Timed:
        stored = pair.stored
        duration = max(0, stored.duration or 0)
        pts = self._times.next(stored.pts, stored.dts, duration)
        self._check_duration(pts)
        self._timely = self._timely and pts == stored.pts
        return _Timed(pair.shown, pts, duration)

    def _check_duration(self, pts: int) -> None:
        if self._first_pts is None:
            self._first_pts = pts
        most = self._limits.duration_seconds
        if (pts - self._first_pts) * self.facts.time_base > most:
            raise FilmLimitError(f"the film is longer than {most} seconds", "duration_seconds")

    def _deinterlaced(self, frame: av.VideoFrame | None) -> Iterator[_Pair | None]:
        """Yield the pictures from `frame` on; None if only sound was read."""
        deinterlacer, film = self._deinterlacer, self._film
        end: FilmError | None = None
        while True:
            if frame is None:
                yield None
            else:
                changes = deinterlacer.changes
                for pair in deinterlacer.push(frame):
                    yield _Pair(*pair)
                if deinterlacer.changes != changes:
                    film.landmarks.forget()
            try:
                frame = next(film.pictures)
            except StopIteration:
                break
            except FilmError as error:
                end = error
                break
        for pair in deinterlacer.flush():
            yield _Pair(*pair)
        if end is not None:
            raise end

    # Resuming in mid-film.

    def _reading_point(self, pts: int, finished: int) -> ReadingPoint:
        """Return how to resume at the picture at `pts`, which was the last to be timed."""
        if self._point is not None and pts == self._point.pts:
            return self._point
        film, last = self._film, self._last
        whole = not film.decoder.lost_packets and not film.decoder.marred
        packet = film.landmarks.before(pts) if whole and self._timely else 0
        if not packet or last is None:
            # Everything is read and decoded again: these pictures depend on all of it.
            return ReadingPoint(finished, pts, {})
        state = {
            "packet": packet,
            "last": last[0],
            "check": crc32(last[1].tobytes()),
            "deinterlacing": self._deinterlacer.active,
            "times": self._times.to_json(),
            "decoder": film.decoder.to_json(),
        }
        return ReadingPoint(finished, pts, state)

    def _after_jump(
        self, pictures: Iterator[_Pair | None], point: ReadingPoint
    ) -> Generator[None, None, _Timed | None]:
        """Skip pictures decoded only for the sake of later ones; return the one to resume at.

        None if the pictures differ from those of a reading from the beginning.
        """
        state = point.state
        if state["deinterlacing"]:
            self._deinterlacer.begin()
        last: _Pair | None = None
        try:
            for pair in pictures:
                if pair is None:
                    yield None
                    continue
                pts = pair.stored.pts
                if pts is not None and pts < point.pts:
                    last = pair
                    continue
                if pts != point.pts or last is None or not self._same(last, state):
                    return None
                self._times.restore(state["times"])
                self._film.decoder.restore(state["decoder"])
                return _Timed(pair.shown, pts, max(0, pair.stored.duration or 0))
        except FilmError:
            pass  # It recurs when the film is read from its beginning.
        return None

    def _same(self, last: _Pair, state: dict[str, object]) -> bool:
        if last.stored.pts != state["last"]:
            return False
        frame = self._model.render(last.shown, orientation_of(last.shown))
        return crc32(frame.tobytes()) == state["check"]

    def _begin_again(self) -> None:
        """Fall back to reading from the beginning, without the sound that was already returned."""
        # Users of its sound streams still refer to it.
        self._given_up = self._film
        self._film = Demuxer(self._file, self._limits, sound=self._sound)
        self._sound_to_drop = self._sound_given
        self._deinterlacer = Deinterlacer()

    def _note_repairs(self) -> None:
        decoder = self._film.decoder
        for count, what, became in (
            (decoder.lost_packets, "picture packet", "damaged and could not be decoded"),
            (decoder.marred, "picture", "damaged and shown as far as it could be decoded"),
            (self._times.repaired, "picture", "without a usable time of its own and given one"),
        ):
            if count:
                many = "s were" if count > 1 else " was"
                self.warnings.append(f"{count} {what}{many} {became}")
        joins = self._film.joined.joins
        if joins:
            times = f"{joins} times" if joins > 1 else "once"
            self.warnings.append(f"the film's clock jumped back {times}; it was made to go on")
