"""Repairs the times of packets and pictures if they are unusable.

Only broken times are changed: all others keep their values, gaps and starts.
"""

from __future__ import annotations

from fractions import Fraction

import av
from av.stream import Stream

_JUMP_SECONDS = 1
"""A backward step larger than this in a stream's packets is a concatenated new recording."""


class JoinedTimeline:
    """Makes the clock of a film monotonic if it jumps back (concatenated transport streams).

    Each stream jumps at a packet of its own; the first jump determines the shift of all streams, so
    that picture and sound keep their offset.
    """

    def __init__(self) -> None:
        self._offsets = [Fraction(0)]
        self._part: dict[int, int] = {}
        self._last: dict[int, Fraction] = {}
        self._before_jump: dict[int, Fraction] = {}

    @property
    def joins(self) -> int:
        """How many times the clock jumped back."""
        return len(self._offsets) - 1

    def place(self, packet: av.Packet[Stream]) -> None:
        """Correct a packet's times; must be called in reading order."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        if ticks is None:
            return
        stream, base = packet.stream_index, packet.time_base
        time = ticks * base
        last = self._last.get(stream)
        part = self._part.get(stream, 0)
        if last is not None and time < last - _JUMP_SECONDS:
            part += 1
            if part == len(self._offsets):
                step = (packet.duration or 0) * base
                self._offsets.append(self._offsets[-1] + last + step - time)
            self._part[stream] = part
            self._before_jump[stream] = last
        elif part and last is not None and time > last + _JUMP_SECONDS:
            # Back on the old clock: the jump was one wrong time.
            before = self._before_jump[stream]
            if time >= before and time - before < _JUMP_SECONDS:
                part -= 1
                self._part[stream] = part
                if max(self._part.values()) < len(self._offsets) - 1:
                    # No stream is left after that jump: the next one is another.
                    self._offsets.pop()
        self._last[stream] = time
        move = round(self._offsets[part] / base) if part else 0
        if move:
            packet.pts = None if packet.pts is None else packet.pts + move
            packet.dts = None if packet.dts is None else packet.dts + move


class PictureTimes:
    """Gives every picture a time of its own, strictly increasing.

    A picture has up to two times: its own (pts), and that of the packet which made the decoder
    release it (dts). Some containers (AVI) have only the second, and in some films the first runs
    backwards: like FFmpeg's own player, this uses the one that has been wrong less often.
    """

    def __init__(self) -> None:
        self.repaired = 0
        """How many pictures had no usable time, or one that was not after the picture before."""
        self._last: int | None = None
        self._step = 1
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._wrong_pts = 0
        self._wrong_dts = 0
        self._untimed = 0

    def to_json(self) -> dict[str, int | None]:
        """Return the state that later times depend on, as plain JSON."""
        return dict(vars(self))

    def restore(self, data: dict[str, int | None]) -> None:
        """Resume from what `to_json` returned."""
        vars(self).update(data)

    def next(self, pts: int | None, dts: int | None, duration: int) -> int:
        """Return the time of the next picture in presentation order, in its stream's ticks."""
        time = self._choose(pts, dts)
        if time is None:
            time = self._last + self._step if self._last is not None else 0
            # The last few that a decoder delayed may have none, through no fault of the film.
            self._untimed += 1
        else:
            self.repaired += self._untimed
            self._untimed = 0
        if self._last is not None:
            if time <= self._last:
                time = self._last + 1
                self.repaired += 1
            elif duration <= 0:
                self._step = time - self._last
        if duration > 0:
            self._step = duration
        self._last = time
        return time

    def _choose(self, pts: int | None, dts: int | None) -> int | None:
        if pts is not None:
            self._wrong_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        if dts is not None:
            self._wrong_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None and (self._wrong_pts <= self._wrong_dts or dts is None):
            return pts
        return dts
