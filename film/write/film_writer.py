"""Writes a reconstruction as fragmented MP4 while its pictures are still being made.

Pictures and sound are interleaved here and, if necessary, moved to a common zero. Waiting is
bounded: sound that begins late, or never, delays pictures by at most a second of film, and what is
buffered is limited.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from types import TracebackType
from typing import Self

import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from film.facts import FilmFacts
from film.output import OutputSettings
from film.read.batch import FilmBatch
from film.write.audio_queue import AudioQueue
from film.write.mp4_assembler import Mp4Assembler, PictureFeed

_PATIENCE = Fraction(1)
"""Seconds of film that a picture waits for sound that should precede it."""
_MAX_SOUND_AHEAD = 4 << 20
"""Bytes of sound buffered for pictures that have not arrived yet."""


class FilmWriter:
    """Takes reconstructed pictures with the film's sound, and passes an MP4's bytes to a sink.

    For one thread at a time. The sink may block; its exceptions propagate from `write` or `close`
    and end the writer. As a context manager it closes, or aborts after an exception.
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
            sound_streams: the film's streams that its facts do not drop, in the same order; they
                are decoded here if necessary.
            settings: the output's settings.
        """
        self.origin = Fraction(0)
        """The film's time, in seconds, that is the output's zero; final once bytes are written."""
        self._facts = facts
        self._feed = PictureFeed(facts, settings)
        self._assembly = Mp4Assembler(sink, facts, settings)
        self._tracks = AudioQueue(facts, sound_streams, wanted=settings.sound)
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
    def frames(self) -> int:
        """Pictures taken so far."""
        return self._feed.frames

    @property
    def bytes(self) -> int:
        """Bytes passed to the sink."""
        return self._assembly.muxer.bytes

    @property
    def warnings(self) -> list[str]:
        """What was repaired or left out so far, one sentence each."""
        return [*self._assembly.notes, *self._tracks.warnings]

    def write(self, batch: FilmBatch, decoded: NDArray[np.uint8]) -> None:
        """Take a batch of the film and the reconstruction of its pictures.

        Args:
            batch: from the reader, with `pictures` if `picture_size` asks for them.
            decoded: [N, 144, 256, 3] RGB, one for each of the batch's frames.

        Raises:
            ValueError: `decoded` does not match the batch, or the writer has ended.
        """
        if self._ended:
            raise ValueError("the writer has ended")
        self._feed.check(batch, decoded)
        try:
            self._tracks.take(batch.sound)
            for picture, pts in self._feed.compose(batch, decoded):
                self._assembly.encode(picture, pts)
            self._advance()
        except BaseException:
            self.abort()
            raise

    def close(self) -> None:
        """Write what is left and finish the output. No effect once the writer has ended.

        A film without pictures produces no output.
        """
        if self._ended:
            return
        try:
            self._tracks.finish()
            if self.frames:
                self._assembly.finish_encoding(self._feed.final_duration())
                self._advance(final=True)
                self._assembly.end()
        finally:
            self.abort()

    def abort(self) -> None:
        """Abort: release everything, write nothing more."""
        self._ended = True
        self._assembly.abandon()
        self._tracks.clear()

    def _advance(self, *, final: bool = False) -> None:
        """Write everything whose order is settled."""
        while (time := self._assembly.next_time) is not None:
            if not final and not self._may_go(time):
                break
            self._start()
            self._assembly.put_sound(self._tracks, until=time)
            self._assembly.put_picture()
        if final:
            self._assembly.put_sound(self._tracks, until=None, final=True)
        elif self._tracks.bytes > _MAX_SOUND_AHEAD:
            self._start()
            self._assembly.put_sound(self._tracks, until=None)

    def _may_go(self, time: Fraction) -> bool:
        """Return whether a picture can be written: its sound has arrived, or the wait is over."""
        return self._feed.newest - time >= _PATIENCE or self._tracks.reached(time)

    def _start(self) -> None:
        """Write the header, with what is known of the sound so far."""
        if not self._started:
            self._started = True
            self.origin = self._assembly.begin(self._tracks).origin
