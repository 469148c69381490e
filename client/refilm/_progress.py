"""Turns the service's counts into a fraction, a rate and the time left."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable

from refilm._source import Source
from refilm._times import seconds
from refilm._values import FilmFacts, Progress
from refilm._wire import psnr
from refilm.v1 import autoencoder_pb2 as pb

_WINDOW_SECONDS = 10.0


class Meter:
    """Measures one reconstruction."""

    def __init__(self, source: Source | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._reused = 0
        self._film: FilmFacts | None = None
        self._marks: deque[tuple[float, int, int, float]] = deque()

    def start(self, film: FilmFacts) -> None:
        """Takes the film's facts, once."""
        self._film = film
        self._marks.append((self._clock(), 0, 0, 0.0))

    def progress(self, message: pb.ReconstructionProgress) -> Progress:
        """Returns the progress by the service's counts."""
        position = seconds(message.position)
        self._reused = message.frames_reused
        # A film's own totals are estimates; one that is exceeded was wrong, and is dropped.
        total = self._film.estimated_frames if self._film else None
        if total and message.frames_decoded > total:
            total = None
        duration = self._film.duration if self._film else None
        if duration and position > duration:
            duration = None
        now = self._clock()
        self._marks.append((now, message.frames_written, message.frames_reused, position))
        while len(self._marks) > 2 and now - self._marks[1][0] >= _WINDOW_SECONDS:
            self._marks.popleft()
        then, frames_then, reused_then, position_then = self._marks[0]
        elapsed = now - then
        frames = message.frames_written - frames_then
        # Existing frames arrive faster than new ones, and only once.
        made = frames - (message.frames_reused - reused_then)
        frames = made or frames
        rate = frames / elapsed if elapsed > 0 and frames > 0 else None

        fraction: float | None = None
        eta: float | None = None
        if total:
            fraction = message.frames_written / total
            if rate:
                eta = (total - message.frames_written) / rate
        elif duration:
            fraction = position / duration
            if rate and position > position_then:
                eta = (duration - position) * elapsed / (position - position_then)
        return Progress(
            bytes_sent=self._source.position if self._source else 0,
            bytes_total=self._source.size if self._source else None,
            bytes_received=message.received_bytes,
            frames_decoded=message.frames_decoded,
            frames_reconstructed=message.frames_reconstructed,
            frames_written=message.frames_written,
            frames_total=total,
            position=position,
            fraction=fraction,
            frames_per_second=rate,
            eta=eta,
            frames_reused=message.frames_reused,
            mean_psnr_db=psnr(message),
            queue_position=message.queue_position if message.HasField("queue_position") else None,
        )

    def finish(self, summary: pb.ReconstructionSummary) -> Progress:
        """Returns the final progress: everything is done."""
        last = self.progress(
            pb.ReconstructionProgress(
                received_bytes=summary.received_bytes,
                frames_decoded=summary.frames,
                frames_reconstructed=summary.frames,
                frames_written=summary.frames,
                position=summary.duration,
                frames_reused=self._reused,
                mean_psnr_db=psnr(summary),
            )
        )
        return dataclasses.replace(last, frames_total=summary.frames, fraction=1.0, eta=0.0)
