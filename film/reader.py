"""Reading a film: pictures as model frames with their times, and the sound among them.

Open a `FilmReader` on the film's bytes, look at its `facts`, and iterate over its `batches`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import BinaryIO, Self, TypeAlias, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from film.batch import BatchMaker, FilmBatch
from film.decoder import PictureDecoder
from film.errors import (
    DamagedFilmError,
    FilmCancelledError,
    FilmError,
    FilmLimitError,
    NoPictureError,
    NotAFilmError,
    TruncatedFilmError,
)
from film.facts import FilmFacts, SoundAction
from film.frame import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from film.limits import ReadLimits
from film.pictures import Deinterlacer, Renderer, orientation_of
from film.probe import (
    choose_picture,
    choose_sound,
    discard_others,
    open_container,
    read_facts,
)
from film.segments import ResumePoint
from film.source import FilmSource, is_mp4, refuse_others
from film.structure import find_break, has_mp4_index, mp4_length_is_open
from film.timeline import JoinedTimeline, PictureTimes

DEFAULT_LIMITS = ReadLimits()

_SOUND_BATCH_BYTES = 4 << 20
"""Sound that may gather before it is handed on without waiting for pictures to fill a batch."""
_SOUND_FIRST_BYTES = 256 << 20
"""Sound that may lie before the first picture."""
_BROKEN_TAIL = 12
"""Packets in a row at the film's end that could not be decoded: more than an accident."""

PictureSize: TypeAlias = tuple[int, int] | Callable[[FilmFacts], tuple[int, int] | None] | None


class FilmReader:
    """Reads one film; opened, used and closed on one thread.

    Opening waits until the first picture is decoded, so a film that holds none is refused at once.
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
    ) -> None:
        """Open a film.

        Args:
            file: its bytes, seekable; may still be arriving (`SpoolReader`). It is not closed.
            limits: how large the film may be.
            picture_size: width and height of pictures wanted beside the model frames, or what says
                so once the facts are known.
            sound: whether sound packets are wanted.
            segmented: whether batches shall tell where segments begin, and never cross that.
            resume: read on after whole segments (implies `segmented`): all sound from the film's
                beginning on, which a `SegmentWriter` that goes on sorts out, then the pictures as
                they would have come. Batches of sound alone come first.

        Raises:
            NotAFilmError: no film can be read from the bytes.
            NoPictureError: it has no moving picture.
            TruncatedFilmError: it breaks off before its first picture.
            DamagedFilmError: none of its pictures can be decoded.
            FilmLimitError: its pictures are too large.
            FilmCancelledError: reading was cancelled.
        """
        self.warnings: list[str] = []
        self._file = file
        self._limits = limits
        self._source = FilmSource(file)
        self._head = self._source.look()
        refuse_others(self._head)
        self._container = self._open()
        try:
            self._start(picture_size, sound)
        except BaseException:
            self.close()
            raise

    def _open(self) -> InputContainer:
        try:
            return open_container(self._source, self._limits)
        except NotAFilmError:
            self._refuse_if_cut()
            if is_mp4(self._head) and not has_mp4_index(self._file):
                raise NotAFilmError(
                    "the MP4 file has no index (moov box): it was cut off, or never finished"
                ) from None
            raise

    def _choose_picture(self) -> VideoStream:
        try:
            return choose_picture(self._container, self._limits)
        except (NoPictureError, NotAFilmError):
            self._refuse_if_cut()
            raise

    def _refuse_if_cut(self) -> None:
        broken = find_break(self._file)
        if broken is not None:
            raise TruncatedFilmError(f"the film breaks off before its first picture: {broken}")

    def _start(self, picture_size: PictureSize, sound: bool) -> None:
        stream = self._choose_picture()
        actions = choose_sound(self._container, wanted=sound)
        self._stream = stream
        self.sound_streams: tuple[AudioStream, ...] = tuple(
            track for track, action in actions.items() if action is not SoundAction.DROP
        )
        """The sound tracks that are not dropped, in the film's order."""
        discard_others(
            self._container, {stream.index, *(track.index for track in self.sound_streams)}
        )
        self._decoder = PictureDecoder(stream, self._limits)
        self._joined = JoinedTimeline()
        self._times = PictureTimes()
        self._sound: list[av.Packet[AudioStream]] = []
        self._sound_bytes = 0
        self._packets: Iterator[av.Packet[Stream]] = self._container.demux(
            [stream, *self.sound_streams]
        )
        self._pictures = self._decode()
        self._first = self._read_first()
        self.facts: FilmFacts = read_facts(
            self._container,
            self._head,
            stream,
            self._first,
            actions,
            length_is_open=is_mp4(self._head) and mp4_length_is_open(self._file),
        )
        """What the film is."""
        size = picture_size(self.facts) if callable(picture_size) else picture_size
        self._model = Renderer(MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT)
        self._large = Renderer(*size) if size is not None else None

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
        # FFmpeg must not be asked for another packet of a closed container.
        self._packets = iter(())
        # A generator that refers to this reader would keep its decoder's threads until Python's
        # next collection of cycles.
        self._pictures = iter(())
        self._container.close()

    def batches(self, size: int) -> Iterator[FilmBatch]:
        """Yield the film, `size` pictures at a time; can be called once.

        Everything that can be decoded is yielded before an error is raised.

        Raises:
            TruncatedFilmError: the film breaks off.
            DamagedFilmError: it could not be decoded to its end.
            FilmLimitError: it holds more than allowed.
            FilmCancelledError: reading was cancelled.
        """
        batch = BatchMaker(size, self._large is not None)
        end: FilmError | None = None
        pictures = self._timed_pictures()
        while True:
            try:
                item = next(pictures, None)
            except FilmCancelledError:
                raise
            except FilmError as error:
                end, item = error, None
            if item is None:
                break
            frame, time, duration = item
            if frame is not None:
                turn = orientation_of(frame)
                batch.add(
                    self._model.render(frame, turn),
                    self._large.render(frame, turn) if self._large is not None else None,
                    time,
                    duration,
                )
            if batch.full or self._sound_bytes > _SOUND_BATCH_BYTES:
                yield batch.take(self._take_sound())
        if batch.count or self._sound:
            yield batch.take(self._take_sound())
        self._note_repairs()
        if end is not None:
            raise end

    def _take_sound(self) -> list[av.Packet[AudioStream]]:
        sound, self._sound, self._sound_bytes = self._sound, [], 0
        return sound

    def _timed_pictures(self) -> Iterator[tuple[av.VideoFrame | None, int, int]]:
        """Yield deinterlaced pictures, times and durations; None for a picture: only sound came."""
        deinterlacer = Deinterlacer()
        frame: av.VideoFrame | None = self._first
        end: FilmError | None = None
        while True:
            if frame is None:
                yield None, 0, 0
            else:
                for shown, stored in deinterlacer.push(frame):
                    yield self._timed(shown, stored)
            try:
                frame = next(self._pictures)
            except StopIteration:
                break
            except FilmCancelledError:
                raise
            except FilmError as error:
                end = error
                break
        for shown, stored in deinterlacer.flush():
            yield self._timed(shown, stored)
        if end is not None:
            raise end

    def _timed(self, shown: av.VideoFrame, stored: av.VideoFrame) -> tuple[av.VideoFrame, int, int]:
        duration = max(0, stored.duration or 0)
        return shown, self._times.next(stored.pts, stored.dts, duration), duration

    def _read_first(self) -> av.VideoFrame:
        for frame in self._pictures:
            if frame is not None:
                return frame
            if self._sound_bytes > _SOUND_FIRST_BYTES:
                break
        if self._sound_bytes > _SOUND_FIRST_BYTES:
            raise FilmLimitError(
                f"more than {_SOUND_FIRST_BYTES} bytes of sound lie before the first picture"
            )
        raise DamagedFilmError("none of the film's pictures could be decoded")

    def _decode(self) -> Iterator[av.VideoFrame | None]:
        """Yield decoded pictures as stored, and None when sound has gathered; raise at the end."""
        fault: FilmError | None = None
        while True:
            try:
                packet = self._next_packet()
            except DamagedFilmError as error:
                fault, packet = error, None
            if packet is None:
                break
            # Empty packets carry no picture, and would make the decoder believe that all is over.
            if not packet.size:
                continue
            self._joined.place(packet)
            if packet.stream_index == self._stream.index:
                yield from self._decoder.decode(packet)
            else:
                self._keep_sound(packet)
                if self._sound_bytes > _SOUND_BATCH_BYTES:
                    yield None
        yield from self._decoder.decode(None)
        self._check_end()
        if fault is not None:
            raise fault

    def _next_packet(self) -> av.Packet[Stream] | None:
        self._source.check()
        try:
            packet = next(self._packets, None)
        except (av.FFmpegError, OSError, ValueError):
            self._source.check()
            raise DamagedFilmError(
                f"the film's container cannot be read past picture {self._decoder.pictures}"
            ) from None
        # A failure looks like the film's end to FFmpeg.
        self._source.check()
        return packet

    def _keep_sound(self, packet: av.Packet[Stream]) -> None:
        self._sound.append(cast("av.Packet[AudioStream]", packet))
        self._sound_bytes += packet.size

    def _check_end(self) -> None:
        """Raise if what came last was not the film's own end."""
        broken = find_break(self._file)
        if broken is not None:
            raise TruncatedFilmError(
                f"the film breaks off after {self._decoder.pictures} pictures: {broken}"
            )
        if self._decoder.lost_in_a_row >= _BROKEN_TAIL:
            raise DamagedFilmError(
                f"the film cannot be decoded after picture {self._decoder.pictures}: "
                f"its last {self._decoder.lost_in_a_row} packets are damaged"
            )

    def _note_repairs(self) -> None:
        for count, what, became in (
            (self._decoder.lost_packets, "picture packet", "damaged and could not be decoded"),
            (self._decoder.marred, "picture", "damaged and shown as far as it could be decoded"),
            (self._times.repaired, "picture", "without a usable time of its own and given one"),
        ):
            if count:
                many = "s were" if count > 1 else " was"
                self.warnings.append(f"{count} {what}{many} {became}")
        joins = self._joined.joins
        if joins:
            times = f"{joins} times" if joins > 1 else "once"
            self.warnings.append(f"the film's clock jumped back {times}; it was made to go on")
