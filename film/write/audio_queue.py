"""Queues of sound tracks between reader and output, until their pictures have arrived."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer

from film.facts import FilmFacts, SoundAction
from film.write.sound import CopiedTrack, SoundTrackWriter, SoundUnit
from film.write.transcode import EncodedTrack

_LIKELY_PRIMING = Fraction(1, 20)
"""Seconds of a track's sound that may precede the start that the container states."""

_UNIT_BYTES = 200
"""Memory per unit in addition to its data, which may be a single byte."""


class QueuedTrack:
    """One track's units, queued between the film and the output."""

    def __init__(self, writer: SoundTrackWriter, source: AudioStream) -> None:
        self.writer = writer
        self.index = source.index
        """The film's stream's."""
        self.queue: deque[SoundUnit] = deque()
        self.settled = False
        """Whether the track has been added to the output."""
        self.left = 0
        """Units passed to the output, including those of earlier writers."""
        self.skipped = 0
        """Units to drop because an earlier writer wrote them."""
        self.bytes = 0
        """Memory of what waits."""
        self._told = Fraction(0)
        if source.start_time is not None and source.time_base is not None:
            self._told = source.start_time * source.time_base - _LIKELY_PRIMING

    def take(self, units: Sequence[SoundUnit]) -> None:
        """Queue units."""
        for unit in units:
            if self.skipped:
                self.skipped -= 1
            else:
                self.queue.append(unit)
                self.bytes += len(unit.data) + _UNIT_BYTES

    def units(self, *, until: Fraction | None, final: bool) -> Iterator[tuple[SoundUnit, int]]:
        """Remove and yield the units before a time in the film, or all, with their durations.

        The last one is yielded only at the end: its duration is unknown until the next unit
        arrives.
        """
        queue = self.queue
        while len(queue) > 1 and (until is None or self.time_of(queue[0]) <= until):
            unit = self._pop()
            yield unit, queue[0].time - unit.time
        if final and queue:
            unit = self._pop()
            yield unit, unit.duration

    def beginning(self, origin: Fraction) -> tuple[int, int]:
        """Return the first unit's time and priming; the container's values until it arrives."""
        if self.queue:
            return self.queue[0].time, self.writer.priming
        return int(max(self._told, origin) * self.writer.rate), 0

    @property
    def reached(self) -> Fraction:
        """The time of the film, in seconds, up to which sound has arrived."""
        return self.time_of(self.queue[-1]) if self.queue else Fraction(-1 << 62)

    def time_of(self, unit: SoundUnit) -> Fraction:
        """Return a unit's time in the film, in seconds."""
        return Fraction(unit.time, self.writer.rate)

    def clear(self) -> None:
        """Drop what waits."""
        self.queue.clear()
        self.bytes = 0

    def _pop(self) -> SoundUnit:
        unit = self.queue.popleft()
        self.bytes -= len(unit.data) + _UNIT_BYTES
        self.left += 1
        return unit


class AudioQueue:
    """All tracks of a film that go into the output, in output order."""

    def __init__(self, facts: FilmFacts, streams: Sequence[AudioStream], *, wanted: bool) -> None:
        """Set up for the film's streams that its facts do not drop, in the same order.

        If sound is not `wanted`, there are no tracks.
        """
        self._tracks: dict[int, QueuedTrack] = {}
        self._notes: list[str] = []
        if not wanted:
            return
        numbered = enumerate(facts.sound_tracks, start=1)
        kept = [
            (number, track) for number, track in numbered if track.action is not SoundAction.DROP
        ]
        for (number, track), stream in zip(kept, streams, strict=True):
            name = f"Sound track {number} ({track.codec})"
            writer_of = CopiedTrack if track.action is SoundAction.COPY else EncodedTrack
            try:
                self._tracks[stream.index] = QueuedTrack(writer_of(stream, name), stream)
            except (av.FFmpegError, ValueError):
                self._notes.append(f"{name}: it cannot be written as MP4; the track was left out.")

    def __iter__(self) -> Iterator[QueuedTrack]:
        return iter(self._tracks.values())

    @property
    def bytes(self) -> int:
        """Memory of what waits."""
        return sum(track.bytes for track in self)

    @property
    def warnings(self) -> list[str]:
        """What was repaired or left out so far, one sentence each."""
        notes = list(self._notes)
        for track in self:
            notes.extend(track.writer.warnings())
        return notes

    def take(self, packets: Sequence[av.Packet[AudioStream]]) -> None:
        """Queue the units made from packets of the film."""
        for packet in packets:
            track = self._tracks.get(packet.stream_index)
            if track is not None:
                track.take(track.writer.push(packet))

    def finish(self) -> None:
        """Queue the remaining units at the film's end."""
        for track in self:
            track.take(track.writer.finish())

    def reached(self, time: Fraction) -> bool:
        """Return whether all sound before a time of the film has arrived."""
        return all(track.reached > time for track in self)

    def add_to(self, container: OutputContainer) -> list[AudioStream]:
        """Add the tracks to an output, or to a further piece of it.

        The first call drops, for good, the tracks that the output cannot hold.
        """
        added = []
        for index, track in list(self._tracks.items()):
            try:
                if track.writer.given_up and not track.settled:
                    raise ValueError
                added.append(track.writer.add_to(container))
                track.settled = True
            except (av.FFmpegError, ValueError):
                if track.settled:
                    raise
                self._notes.extend(track.writer.warnings())
                del self._tracks[index]
        return added

    def to_json(self) -> dict[str, Any]:
        """Return, as plain JSON, the tracks and how much of each was passed to the output."""
        kept = {str(index): track.left for index, track in self._tracks.items()}
        return {"left": kept, "notes": self._notes}

    def resume(self, data: dict[str, Any]) -> None:
        """Resume where `to_json` was called, before any sound is taken.

        All the film's sound must be taken again: what was already passed on is dropped. So encoded
        sound continues as if its encoder had never stopped.
        """
        left = {int(index): int(count) for index, count in data["left"].items()}
        self._tracks = {index: self._tracks[index] for index in left}
        self._notes = [str(note) for note in data["notes"]]
        for index, track in self._tracks.items():
            track.left = track.skipped = left[index]
            track.settled = True

    def clear(self) -> None:
        """Drop what waits."""
        for track in self:
            track.clear()
