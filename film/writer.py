"""Writes a reconstruction as fragmented MP4 while its pictures are still being made.

Pictures and sound meet here: they are put in order and, if need be, moved to a common zero. Nothing
waits long for anything: sound that begins late, or never, holds pictures back for a second of film,
and what is kept for later is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from film.batch import FilmBatch
from film.compose import Composer
from film.encoder import PictureEncoder
from film.facts import FilmFacts, SoundAction
from film.muxer import MAX_DURATION, Muxer
from film.output import OutputSettings, output_sample_aspect_ratio, output_size
from film.sound import CopiedTrack, SoundTrackWriter, SoundUnit
from film.ticks import movie_timescale, origin_of, place
from film.transcode import EncodedTrack

_PATIENCE = Fraction(1)
"""Seconds of film that a picture waits for sound that should come before it."""
_MAX_SOUND_AHEAD = 4 << 20
"""Bytes of sound kept for pictures that are still to come."""
_LIKELY_PRIMING = Fraction(1, 20)
"""Seconds of a track's sound that may lie before its start as the container tells it."""


class FilmWriter:
    """Takes reconstructed pictures with the film's sound, and calls a sink with an MP4's bytes.

    For one thread at a time. The sink may block; whatever it raises comes out of `write` or `close`
    and ends the writer. As a context manager it closes, or, after an exception, gives up.
    """

    def __init__(
        self,
        sink: Callable[[bytes], None],
        facts: FilmFacts,
        sound_streams: Sequence[AudioStream],
        settings: OutputSettings,
    ) -> None:
        """Set up the output; nothing is written yet.

        Args:
            sink: called with the output's bytes in order, at most 1 MiB at a time.
            facts: the film's.
            sound_streams: those of the film's that its facts do not drop, in the same order; they
                are decoded here where need be.
            settings: how the output shall look.
        """
        self.frames = 0
        """Pictures taken."""
        self.origin = Fraction(0)
        """The film's time, in seconds, that is the output's zero; final with the first bytes."""
        self._facts = facts
        self._muxer = Muxer(sink)
        size = output_size(facts, settings)
        self._composer = Composer(settings.layout, size)
        self._encoder = PictureEncoder(
            self._muxer.container,
            size,
            output_sample_aspect_ratio(facts, settings),
            facts.time_base,
            facts.average_frame_rate,
            settings.quality,
        )
        self._notes: list[str] = []
        self._tracks = self._open_tracks(sound_streams) if settings.sound else {}
        self._pictures: deque[av.Packet[VideoStream]] = deque()
        self._newest = Fraction(0)
        self._last_pts = 0
        self._last_duration = 0
        self._started = False
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @property
    def bytes(self) -> int:
        """Bytes given to the sink."""
        return self._muxer.bytes

    @property
    def warnings(self) -> list[str]:
        """What was repaired or left out so far, one sentence each."""
        notes = list(self._notes)
        for track in self._tracks.values():
            notes.extend(track.writer.warnings())
        return notes

    def write(self, batch: FilmBatch, decoded: NDArray[np.uint8]) -> None:
        """Take a batch of the film and the reconstruction of its pictures.

        Args:
            batch: as the reader gave it, with `pictures` where `picture_size` asks for them.
            decoded: [N, 144, 256, 3] RGB, one for each of the batch's frames.

        Raises:
            ValueError: `decoded` does not match the batch, or the writer has ended.
        """
        if self._ended:
            raise ValueError("the writer has ended")
        if len(decoded) != len(batch.frames):
            raise ValueError(f"{len(batch.frames)} frames in the film, {len(decoded)} decoded")
        try:
            self._take_sound(batch.sound)
            self._take_pictures(batch, decoded)
            self._advance()
        except BaseException:
            self.abort()
            raise

    def close(self) -> None:
        """Write what is left and end the output. Without effect once the writer has ended.

        A film without a single picture leaves no output.
        """
        if self._ended:
            return
        try:
            for track in self._tracks.values():
                track.queue.extend(track.writer.finish())
            if self.frames:
                self._pictures.extend(self._encoder.finish(self._final_duration()))
                self._advance(final=True)
                self._muxer.end()
        finally:
            self.abort()

    def abort(self) -> None:
        """Give up: release everything, write nothing more."""
        self._ended = True
        self._muxer.abandon()
        self._pictures.clear()
        for track in self._tracks.values():
            track.queue.clear()

    def _open_tracks(self, streams: Sequence[AudioStream]) -> dict[int, _Track]:
        tracks: dict[int, _Track] = {}
        numbered = enumerate(self._facts.sound_tracks, start=1)
        kept = [
            (number, track) for number, track in numbered if track.action is not SoundAction.DROP
        ]
        for (number, facts), stream in zip(kept, streams, strict=True):
            name = f"Sound track {number} ({facts.codec})"
            writer_of = CopiedTrack if facts.action is SoundAction.COPY else EncodedTrack
            try:
                tracks[stream.index] = _Track(writer_of(stream, name), stream)
            except (av.FFmpegError, ValueError):
                self._notes.append(f"{name}: it cannot be written as MP4; the track was left out.")
        return tracks

    def _take_sound(self, packets: Sequence[av.Packet[AudioStream]]) -> None:
        for packet in packets:
            track = self._tracks.get(packet.stream_index)
            if track is not None:
                track.queue.extend(track.writer.push(packet))

    def _take_pictures(self, batch: FilmBatch, decoded: NDArray[np.uint8]) -> None:
        sources = batch.pictures if batch.pictures is not None else batch.frames
        for source, image, pts, duration in zip(
            sources, decoded, batch.pts.tolist(), batch.durations.tolist(), strict=True
        ):
            picture = self._composer.compose(source, image)
            self._pictures.extend(self._encoder.encode(picture, pts))
            self._last_duration = duration or (pts - self._last_pts if self.frames else 0)
            self._last_pts = pts
            self._newest = pts * self._facts.time_base
            self.frames += 1

    def _final_duration(self) -> int:
        if self._last_duration > 0:
            return self._last_duration
        rate = self._facts.average_frame_rate
        return max(1, round(1 / rate / self._facts.time_base)) if rate else 1

    def _advance(self, *, final: bool = False) -> None:
        """Hand on all that can be put in order."""
        while self._pictures:
            time = (self._pictures[0].dts or 0) * self._encoder.time_base
            if not final and not self._may_go(time):
                break
            self._start()
            self._mux_sound(until=time)
            picture = self._pictures.popleft()
            if (picture.duration or 0) > MAX_DURATION:
                self._notes.append(
                    f"A picture at {float(time):.3f} s is shown for longer than MP4 can say at "
                    "this film's time base; what follows is early."
                )
            self._muxer.write(
                picture, self._encoder.stream, picture.dts or 0, picture.duration or 0
            )
        if final:
            self._mux_sound(until=None, final=True)
        elif sum(track.bytes for track in self._tracks.values()) > _MAX_SOUND_AHEAD:
            self._start()
            self._mux_sound(until=None)

    def _may_go(self, time: Fraction) -> bool:
        """Say whether a picture need not wait: all its sound is here, or it has waited enough."""
        late = self._newest - time >= _PATIENCE
        return late or all(track.reached > time for track in self._tracks.values())

    def _start(self) -> None:
        """Write the header, with what is known of the sound by now."""
        if self._started:
            return
        self._started = True
        self._add_tracks()
        self.origin = self._find_origin()
        video = self._encoder.time_base.denominator
        rates = [track.writer.rate for track in self._tracks.values()]
        movie = movie_timescale([video, *rates])
        first = self._pictures[0].dts or 0 if self._pictures else int(self.origin * video)
        placements = {self._encoder.stream.index: place(first, 0, video, self.origin, movie)}
        for track in self._tracks.values():
            begin, priming = track.beginning(self.origin)
            placements[track.added.index] = place(
                begin, priming, track.writer.rate, self.origin, movie
            )
        self._muxer.begin(placements, movie, self._expected_end(first))

    def _add_tracks(self) -> None:
        for index, track in list(self._tracks.items()):
            try:
                if track.writer.given_up:
                    raise ValueError
                track.added = track.writer.add_to(self._muxer.container)
            except (av.FFmpegError, ValueError):
                self._notes.extend(track.writer.warnings())
                del self._tracks[index]

    def _find_origin(self) -> Fraction:
        tracks = self._tracks.values()
        starts = [
            Fraction(track.queue[0].time + track.writer.priming, track.writer.rate)
            for track in tracks
            if track.queue
        ]
        if self._pictures:
            starts.append((self._pictures[0].dts or 0) * self._encoder.time_base)
        bases = [self._facts.time_base, *(Fraction(1, track.writer.rate) for track in tracks)]
        origin = origin_of(min(starts), bases)
        if origin:
            self._notes.append(
                f"The film starts at {float(origin):.6f} s; picture and sound were moved to 0."
            )
        return origin

    def _expected_end(self, first: int) -> Fraction | None:
        if self._facts.duration is None:
            return None
        return first * self._encoder.time_base - self.origin + self._facts.duration

    def _mux_sound(self, *, until: Fraction | None, final: bool = False) -> None:
        """Write the sound before a time in the film, or all; the last unit only at the end.

        Before the next unit is here, nobody knows how long the last one lasts.
        """
        for track in self._tracks.values():
            queue = track.queue
            while len(queue) > 1 and (until is None or track.time_of(queue[0]) <= until):
                unit = queue.popleft()
                self._mux_unit(track, unit, queue[0].time - unit.time)
            if final and queue:
                unit = queue.popleft()
                self._mux_unit(track, unit, unit.duration)

    def _mux_unit(self, track: _Track, unit: SoundUnit, duration: int) -> None:
        packet = cast("av.Packet[AudioStream]", av.Packet(unit.data))
        packet.is_keyframe = True
        self._muxer.write(packet, track.added, unit.time, duration)


class _Track:
    """A sound track's packets between the film and the output."""

    added: AudioStream
    """The output's stream, once there is one."""

    def __init__(self, writer: SoundTrackWriter, source: AudioStream) -> None:
        self.writer = writer
        self.queue: deque[SoundUnit] = deque()
        self._told = Fraction(0)
        if source.start_time is not None and source.time_base is not None:
            self._told = source.start_time * source.time_base - _LIKELY_PRIMING

    def beginning(self, origin: Fraction) -> tuple[int, int]:
        """Return the first unit's time and priming; until it is here, what the container tells."""
        if self.queue:
            return self.queue[0].time, self.writer.priming
        return int(max(self._told, origin) * self.writer.rate), 0

    @property
    def reached(self) -> Fraction:
        """Up to which time of the film, in seconds, the sound is here."""
        return self.time_of(self.queue[-1]) if self.queue else Fraction(-1 << 62)

    @property
    def bytes(self) -> int:
        """Bytes that wait."""
        return sum(len(unit.data) for unit in self.queue)

    def time_of(self, unit: SoundUnit) -> Fraction:
        """Return a unit's time in the film, in seconds."""
        return Fraction(unit.time, self.writer.rate)
