"""Writes a reconstruction as fragmented MP4 in whole segments; work can resume after any of them.

Every segment has an encoder and a muxer of its own, so its bytes depend only on its pictures, its
sound, and the few facts that a `ResumePoint` carries.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from film.errors import FilmLimitError
from film.facts import FilmFacts
from film.output import OutputSettings
from film.read.batch import FilmBatch
from film.segments import ReadingPoint, ResumeError, ResumePoint, Segment
from film.write.audio_queue import AudioQueue
from film.write.header import boxes
from film.write.mp4_assembler import Mp4Assembler, PictureFeed
from film.write.track_alignment import Alignment

_PATIENCE = Fraction(3)
"""Seconds of film that a segment waits for its sound.

Sound that arrives later is written to the next segment: it still plays, but its exact position in
the file depends on how far the decoder had read ahead."""
_MAX_SOUND_AHEAD = 256 << 20
"""Bytes of sound buffered for pictures that have not arrived yet."""


class SegmentWriter:
    """Takes reconstructed pictures with the film's sound, and returns whole segments.

    `init` and the segments' bytes, joined in order, are the film, whether made in one run or by
    several writers that each resumed after the last whole segment. For one thread at a time; the
    reader whose sound streams it uses must stay open until it is closed.
    """

    def __init__(
        self,
        facts: FilmFacts,
        sound_streams: Sequence[AudioStream],
        settings: OutputSettings,
        resume: ResumePoint | None = None,
    ) -> None:
        """Set up; to resume after `resume`, with a reader resumed there too.

        Raises:
            ResumeError: the point does not match the film, or the film has ended there.
        """
        self.init: bytes | None = None
        """The MP4's header; known with the first segment. None in a writer that resumes: the first
        writer returned it."""
        self._facts = facts
        self._settings = settings
        self._feed = PictureFeed(facts, settings)
        self._tracks = AudioQueue(facts, sound_streams, wanted=settings.sound)
        self._pieces: deque[_Piece] = deque()
        """Pieces in progress, in order: pictures go to the last; the first waits for its sound."""
        self._alignment: Alignment | None = None
        self._encoder = ""
        """Digest of the video encoder's parameters in the header: the same for all segments."""
        self._start_pts = 0
        """Time of the film's first picture."""
        self._fragments = 0
        self._notes: list[str] = []
        self._ended = False
        if resume is not None:
            try:
                self._resume(resume)
            except (TypeError, KeyError, ValueError):
                raise ResumeError("the film does not continue from this point") from None

    @property
    def frames(self) -> int:
        """Pictures taken, including those of earlier writers."""
        return self._feed.frames

    @property
    def origin(self) -> Fraction:
        """The film's time, in seconds, that is the output's zero; final with the first segment."""
        return self._alignment.origin if self._alignment is not None else Fraction(0)

    @property
    def warnings(self) -> list[str]:
        """What was repaired or left out so far, one sentence each."""
        return [*self._notes, *self._tracks.warnings]

    def write(self, batch: FilmBatch, decoded: NDArray[np.uint8]) -> list[Segment]:
        """Take a segmented reader's batch and the reconstruction of its pictures.

        Args:
            batch: from the reader, with `pictures` if `picture_size` asks for them.
            decoded: [N, 144, 256, 3] RGB, one for each of the batch's frames.

        Returns:
            The segments completed now: usually none. A segment is complete some time after the
            next one's first picture, when all of its sound has arrived.

        Raises:
            ValueError: `decoded` does not match the batch, or the writer has ended.
            ResumeError: the encoder differs from the one that made the earlier segments.
            FilmLimitError: more sound than can be buffered precedes the pictures it belongs to.
        """
        if self._ended:
            raise ValueError("the writer has ended")
        self._feed.check(batch, decoded)
        try:
            self._tracks.take(batch.sound)
            if batch.reading is not None:
                self._begin_piece(batch.reading)
            if len(batch.frames):
                self._take_pictures(batch, decoded)
            return self._whole_segments()
        except BaseException:
            self.abort()
            raise

    def close(self, warnings: Sequence[str] = ()) -> list[Segment]:
        """End the film; return its remaining segments.

        The last segment's resume point has `ended`, and the reader's `warnings` besides the
        writer's own. A film without pictures has no segment. No effect once the writer has ended.
        """
        if self._ended:
            return []
        try:
            self._tracks.finish()
            segments = []
            if self._pieces:
                self._end_piece(None, self._feed.final_duration())
            while self._pieces:
                segments.append(self._complete(self._pieces.popleft(), warnings))
            return segments
        finally:
            self.abort()

    def abort(self) -> None:
        """Abort: release everything. No effect once closed."""
        self._ended = True
        while self._pieces:
            self._pieces.popleft().assembly.abandon()
        self._tracks.clear()

    def _take_pictures(self, batch: FilmBatch, decoded: NDArray[np.uint8]) -> None:
        if not self._pieces:
            raise ValueError("the batch is not a segmented reader's")
        piece = self._pieces[-1]
        for picture, pts in self._feed.compose(batch, decoded):
            piece.assembly.encode(picture, pts)
            piece.frames += 1

    def _begin_piece(self, reading: ReadingPoint) -> None:
        if self._pieces:
            self._end_piece(reading, reading.pts - self._feed.last_pts)
        if not reading.finished:
            self._start_pts = reading.pts
        output: list[bytes] = []
        number = reading.finished + 1
        assembly = Mp4Assembler(
            output.append, self._facts, self._settings, piece=True, short_start=number == 1
        )
        self._pieces.append(_Piece(number, reading.pts, assembly, output))
        encoder = hashlib.sha256(assembly.encoder.extradata).hexdigest()
        if self._encoder not in ("", encoder):
            raise ResumeError("the earlier segments were made with another encoder")
        self._encoder = encoder

    def _end_piece(self, following: ReadingPoint | None, last_duration: int) -> None:
        piece, feed = self._pieces[-1], self._feed
        piece.assembly.finish_encoding(last_duration)
        piece.following = following
        piece.end_pts = feed.last_pts + last_duration
        piece.last = {
            "frames": feed.frames, "pts": feed.last_pts, "duration": feed.last_duration
        }  # fmt: skip

    def _whole_segments(self) -> list[Segment]:
        segments = []
        while len(self._pieces) > 1:
            end = self._pieces[0].end_pts * self._facts.time_base
            if self._feed.newest - end < _PATIENCE and not self._tracks.reached(end):
                break
            segments.append(self._complete(self._pieces.popleft()))
        if self._tracks.bytes > _MAX_SOUND_AHEAD:
            raise FilmLimitError(
                f"more than {_MAX_SOUND_AHEAD} bytes of sound lie before the pictures that they "
                "belong to",
                "bytes_between_pictures",
            )
        return segments

    def _complete(self, piece: _Piece, warnings: Sequence[str] = ()) -> Segment:
        """Assemble a segment; `warnings` are the reader's at the film's end."""
        assembly, tracks = piece.assembly, self._tracks
        try:
            alignment = self._begin_output(piece)
            while (time := assembly.next_time) is not None:
                assembly.put_sound(tracks, until=time)
                assembly.put_picture()
            if piece.following is not None:
                assembly.put_sound(tracks, until=piece.end_pts * self._facts.time_base)
            else:
                assembly.put_sound(tracks, until=None, final=True)
            assembly.end()
        finally:
            assembly.abandon()
        data = b"".join(piece.output)
        self._fragments += sum(kind == b"moof" for kind, _ in boxes(data))
        self._notes.extend(assembly.notes)
        known = self.warnings if piece.following is not None else [*warnings, *self.warnings]
        resume = self._resume_point(piece, alignment, known)
        return Segment(piece.number, data, piece.frames, piece.first_pts, resume)

    def _begin_output(self, piece: _Piece) -> Alignment:
        """Write the header: kept from the first segment, repeated identically by the others."""
        if self._alignment is None:
            self._alignment = piece.assembly.begin(self._tracks)
            self.init = b"".join(piece.output)
        else:
            piece.assembly.go_on(self._tracks, self._alignment, self._fragments + 1)
        piece.output.clear()
        return self._alignment

    def _resume_point(
        self, piece: _Piece, alignment: Alignment, warnings: list[str]
    ) -> ResumePoint:
        return ResumePoint(
            segments=piece.number,
            frames=piece.last["frames"],
            position=(piece.end_pts - self._start_pts) * self._facts.time_base,
            warnings=tuple(warnings),
            reading=piece.following,
            writing={
                "alignment": alignment.to_json(),
                "encoder": self._encoder,
                "fragments": self._fragments,
                "last": piece.last,
                "notes": list(self._notes),
                "start": self._start_pts,
                "tracks": self._tracks.to_json(),
            },
        )

    def _resume(self, point: ResumePoint) -> None:
        if point.ended:
            raise ValueError
        state = point.writing
        self._alignment = Alignment.from_json(state["alignment"])
        self._encoder = str(state["encoder"])
        self._fragments = int(state["fragments"])
        self._feed.frames = int(state["last"]["frames"])
        self._feed.last_pts = int(state["last"]["pts"])
        self._feed.last_duration = int(state["last"]["duration"])
        self._notes = [str(note) for note in state["notes"]]
        self._start_pts = int(state["start"])
        self._tracks.resume(state["tracks"])


@dataclass(slots=True)
class _Piece:
    """A segment being made."""

    number: int
    first_pts: int
    assembly: Mp4Assembler
    output: list[bytes]
    """What the assembler has written."""
    frames: int = 0
    end_pts: int = 0
    """The end of its last picture, which is the start of the next piece."""
    following: ReadingPoint | None = None
    """The start of the next piece; None if the film ends."""
    last: dict[str, Any] = field(default_factory=dict)
    """The film's pictures at its end: how many, the last one's time and duration."""
