"""Assembles output films: composes and encodes pictures, and muxes them with the sound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from film.facts import FilmFacts
from film.output import OutputSettings, output_sample_aspect_ratio, output_size
from film.read.batch import FilmBatch
from film.write.audio_queue import AudioQueue
from film.write.compose import Composer
from film.write.encoder import PictureEncoder
from film.write.muxer import MAX_DURATION, Muxer
from film.write.track_alignment import Alignment, align


class PictureFeed:
    """Composes the output's pictures, and tracks the duration of the last one."""

    def __init__(self, facts: FilmFacts, settings: OutputSettings) -> None:
        """Set up for a film, from its first picture."""
        self.frames = 0
        """Pictures taken so far."""
        self.last_pts = 0
        """The last one's time in the film's time base."""
        self.last_duration = 0
        """Its duration in the film's time base; 0 if unknown."""
        self._facts = facts
        self._composer = Composer(settings.layout, output_size(facts, settings))

    @property
    def newest(self) -> Fraction:
        """The last picture's time in seconds."""
        return self.last_pts * self._facts.time_base

    @staticmethod
    def check(batch: FilmBatch, decoded: NDArray[np.uint8]) -> None:
        """Raise ValueError if `decoded` does not match the batch."""
        if len(decoded) != len(batch.frames):
            raise ValueError(f"{len(batch.frames)} frames in the film, {len(decoded)} decoded")

    def compose(
        self, batch: FilmBatch, decoded: NDArray[np.uint8]
    ) -> Iterator[tuple[av.VideoFrame, int]]:
        """Yield a batch's pictures with their times in the film's time base.

        Args:
            batch: from the reader, with `pictures` if `picture_size` asks for them.
            decoded: [N, 144, 256, 3] RGB, one for each of the batch's frames.
        """
        sources = batch.pictures if batch.pictures is not None else batch.frames
        for source, image, pts, duration in zip(
            sources, decoded, batch.pts.tolist(), batch.durations.tolist(), strict=True
        ):
            yield self._composer.compose(source, image), pts
            self.last_duration = duration or (pts - self.last_pts if self.frames else 0)
            self.last_pts = pts
            self.frames += 1

    def final_duration(self) -> int:
        """Return the duration of the film's last picture in the film's time base."""
        if self.last_duration > 0:
            return self.last_duration
        rate = self._facts.average_frame_rate
        return max(1, round(1 / rate / self._facts.time_base)) if rate else 1


class Mp4Assembler:
    """Encodes pictures and muxes them with the sound into one MP4, or one piece of it.

    Encoded pictures are queued here until they are written to the output, which must begin first.
    """

    def __init__(
        self,
        sink: Callable[[bytes], None],
        facts: FilmFacts,
        settings: OutputSettings,
        *,
        piece: bool = False,
        short_start: bool = True,
    ) -> None:
        """Set up.

        Args:
            sink: called with the output's bytes in order, at most 1 MiB at a time.
            facts: the film's.
            settings: the output's settings.
            piece: whether the output is one of several pieces to be joined.
            short_start: whether the second key frame comes early, for an early start of playback.
        """
        self.notes: list[str] = []
        """What had to be repaired, one sentence each."""
        self._facts = facts
        self.muxer = Muxer(sink, piece=piece)
        self.encoder = PictureEncoder(
            self.muxer.container,
            output_size(facts, settings),
            output_sample_aspect_ratio(facts, settings),
            facts.time_base,
            facts.average_frame_rate,
            settings.quality,
            short_start=short_start,
            lead_out=piece,
        )
        self._pictures: deque[av.Packet[VideoStream]] = deque()
        self._sound: list[AudioStream] = []
        """The output's streams, in the order of the tracks."""

    def encode(self, picture: av.VideoFrame, pts: int) -> None:
        """Take the next picture, `pts` in the film's time base."""
        self._pictures.extend(self.encoder.encode(picture, pts))

    def finish_encoding(self, last_duration: int) -> None:
        """Take no more pictures; the last one lasts `last_duration` (film's time base)."""
        self._pictures.extend(self.encoder.finish(last_duration))

    @property
    def next_ticks(self) -> int | None:
        """The time of the next picture to write, in the encoder's time base; None if none waits."""
        return self._pictures[0].dts or 0 if self._pictures else None

    @property
    def next_time(self) -> Fraction | None:
        """The same in seconds."""
        ticks = self.next_ticks
        return None if ticks is None else ticks * self.encoder.time_base

    def begin(self, tracks: AudioQueue) -> Alignment:
        """Begin the output, with what is known of the sound so far; write its header."""
        added = tracks.add_to(self.muxer.container)
        alignment = align(
            self._facts.time_base, self.encoder.time_base, self.next_ticks, list(tracks)
        )
        if alignment.origin:
            self.notes.append(
                f"The film starts at {float(alignment.origin):.6f} s; picture and sound were moved "
                "to 0."
            )
        self._write_header(added, alignment)
        return alignment

    def go_on(self, tracks: AudioQueue, alignment: Alignment, fragment: int) -> None:
        """Begin a further piece of an output; write its header again.

        `alignment` is the first piece's; `fragment` is the number of this one's first fragment.
        """
        self._write_header(tracks.add_to(self.muxer.container), alignment, fragment)

    def _write_header(
        self, added: list[AudioStream], alignment: Alignment, fragment: int = 1
    ) -> None:
        self._sound = added
        duration = self._facts.duration
        end = None if duration is None else alignment.start + duration
        self.muxer.begin(alignment.placements, alignment.timescale, end, fragment)

    def put_picture(self) -> None:
        """Write the next picture to the output."""
        picture = self._pictures.popleft()
        time, duration = picture.dts or 0, picture.duration or 0
        if duration > MAX_DURATION:
            self.notes.append(
                f"A picture at {float(time * self.encoder.time_base):.3f} s is shown for longer "
                "than MP4 can say at this film's time base; what follows is early."
            )
        self.muxer.write(picture, self.encoder.stream, time, duration)

    def put_sound(self, tracks: AudioQueue, *, until: Fraction | None, final: bool = False) -> None:
        """Write the sound before a time of the film to the output, or all that can be written."""
        for track, stream in zip(tracks, self._sound, strict=True):
            for unit, duration in track.units(until=until, final=final):
                packet = cast("av.Packet[AudioStream]", av.Packet(unit.data))
                packet.is_keyframe = True
                self.muxer.write(packet, stream, unit.time, duration)

    def end(self) -> None:
        """Finish the output."""
        self.muxer.end()

    def abandon(self) -> None:
        """Discard everything."""
        self.muxer.abandon()
        self._pictures.clear()
