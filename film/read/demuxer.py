"""Demuxes a film: its packets in file order, its decoded pictures as stored."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from film.errors import (
    DamagedFilmError,
    FilmError,
    FilmLimitError,
    NoPictureError,
    NotAFilmError,
    TruncatedFilmError,
)
from film.facts import FilmFacts, SoundAction
from film.first_bytes import is_mp4, refuse_others
from film.limits import ReadLimits
from film.read.decoder import PictureDecoder
from film.read.input_file import FilmSource
from film.read.probe import choose_picture, choose_sound, discard_others, open_container, read_facts
from film.read.timeline import JoinedTimeline
from film.read.truncation import find_break, has_mp4_index, mp4_length_is_open

SOUND_BATCH_BYTES = 4 << 20
"""Sound that is buffered before it is passed on without waiting for pictures."""
_PACKET_BYTES = 1 << 10
"""Memory per packet in addition to its payload, which may be a single byte."""
_BROKEN_TAIL = 12
"""Consecutive undecodable packets at the film's end from which it counts as damaged."""
_KEYS_KEPT = 1024
_LEAST_LEAD = 8
"""Minimum packets to decode before the key frame that a picture depends on."""


class Demuxer:
    """Reads one film's container once; its first picture is decoded when it is opened."""

    def __init__(self, file: BinaryIO | io.RawIOBase, limits: ReadLimits, *, sound: bool) -> None:
        """Open a film, as `FilmReader` says."""
        self._file = file
        self._limits = limits
        self._source = FilmSource(file)
        self._head = self._source.look()
        refuse_others(self._head)
        self._container = self._open()
        try:
            self._start(sound)
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
            raise TruncatedFilmError(f"the film is truncated before its first picture: {broken}")

    def _start(self, sound: bool) -> None:
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
        self.decoder = PictureDecoder(stream, self._limits)
        self.joined = JoinedTimeline()
        self.landmarks = Landmarks()
        self.sound_bytes = 0
        """Memory of the buffered sound."""
        self._sound: list[av.Packet[AudioStream]] = []
        self._decode_from = 0
        self._since_picture = Since()
        self._packets: Iterator[av.Packet[Stream]] = self._container.demux(
            [stream, *self.sound_streams]
        )
        self.pictures = self._decode()
        """Decoded pictures as stored, and None when the sound buffer is full; raises at the end."""
        self.first = self._read_first()
        """The first of them."""
        self.facts: FilmFacts = read_facts(
            self._container,
            self._head,
            stream,
            self.first,
            actions,
            length_is_open=is_mp4(self._head) and mp4_length_is_open(self._file),
        )
        """The film's facts."""

    def close(self) -> None:
        """Close the film's container; on the thread that opened it."""
        # FFmpeg must not be asked for another packet of a closed container.
        self._packets = iter(())
        # A generator that refers to this film would keep its decoder's threads until Python's
        # next collection of cycles.
        self.pictures = iter(())
        self._container.close()

    def take_sound(self) -> list[av.Packet[AudioStream]]:
        """Return the sound packets read since the last call, in file order."""
        sound, self._sound, self.sound_bytes = self._sound, [], 0
        return sound

    def jump(self, packet: int) -> bool:
        """Read the picture packets before one of `landmarks` without decoding them.

        Returns False, and changes nothing, if that one was read already.
        """
        if packet <= self.landmarks.packets:
            return False
        self.decoder.forget()
        self._decode_from = packet
        return True

    def _read_first(self) -> av.VideoFrame:
        for frame in self.pictures:
            if frame is not None:
                return frame
        raise DamagedFilmError("none of the film's pictures could be decoded")

    def _decode(self) -> Iterator[av.VideoFrame | None]:
        fault: FilmError | None = None
        while True:
            try:
                packet = self._next_packet()
            except DamagedFilmError as error:
                fault, packet = error, None
            if packet is None:
                break
            self._count(packet)
            # Empty packets carry no picture, and the decoder would take them for the end.
            if not packet.size:
                continue
            self.joined.place(packet)
            if packet.stream_index == self._stream.index:
                self.landmarks.note(packet)
                if self.landmarks.packets < self._decode_from:
                    self._since_picture = Since()
                elif frames := self.decoder.decode(packet):
                    self._since_picture = Since()
                    yield from frames
            else:
                self._keep_sound(packet)
                if self.sound_bytes > SOUND_BATCH_BYTES:
                    yield None
        yield from self.decoder.decode(None)
        self._check_end()
        if fault is not None:
            raise fault

    def _next_packet(self) -> av.Packet[Stream] | None:
        self._source.check()
        try:
            packet = next(self._packets, None)
        except MemoryError:
            raise
        except (av.FFmpegError, OSError, ValueError):
            self._source.check()
            raise DamagedFilmError(
                f"the film's container cannot be read past picture {self.decoder.pictures}"
            ) from None
        # FFmpeg takes a failure for the film's end.
        self._source.check()
        return packet

    def _count(self, packet: av.Packet[Stream]) -> None:
        """Count a packet; raises FilmLimitError if too many come without a picture."""
        since, limits = self._since_picture, self._limits
        since.packets += 1
        since.bytes += packet.size
        if since.packets > limits.packets_between_pictures:
            raise FilmLimitError(
                f"more than {limits.packets_between_pictures} packets lie between two pictures",
                "packets_between_pictures",
            )
        if since.bytes > limits.bytes_between_pictures:
            raise FilmLimitError(
                f"more than {limits.bytes_between_pictures} bytes lie between two pictures",
                "bytes_between_pictures",
            )

    def _keep_sound(self, packet: av.Packet[Stream]) -> None:
        self._sound.append(cast("av.Packet[AudioStream]", packet))
        self.sound_bytes += packet.size + _PACKET_BYTES

    def _check_end(self) -> None:
        """Raise if the film did not end properly."""
        broken = find_break(self._file)
        if broken is not None:
            raise TruncatedFilmError(
                f"the film is truncated after {self.decoder.pictures} pictures: {broken}"
            )
        if self.decoder.lost_in_a_row >= _BROKEN_TAIL:
            raise DamagedFilmError(
                f"the film cannot be decoded after picture {self.decoder.pictures}: "
                f"its last {self.decoder.lost_in_a_row} packets are damaged"
            )


@dataclass(slots=True)
class Since:
    """What was read since the last picture."""

    packets: int = 0
    bytes: int = 0


class Landmarks:
    """Key frame index: picture packets from which decoding can start in mid-film."""

    def __init__(self) -> None:
        self.packets = 0
        """Picture packets read; the number, from 1, of the last."""
        self._keys: deque[tuple[int, int]] = deque(maxlen=_KEYS_KEPT)
        self._uncertain = False

    def note(self, packet: av.Packet[Stream]) -> None:
        """Take the next picture packet."""
        self.packets += 1
        if packet.has_sidedata("new_extradata") and self.packets > 1:
            # Later packets cannot be decoded without this one.
            self._uncertain = True
        if packet.is_keyframe and packet.pts is not None:
            self._keys.append((self.packets, packet.pts))

    def forget(self) -> None:
        """Drop what was noted: later pictures depend on more than the packets before them."""
        self._keys.clear()

    def before(self, pts: int) -> int:
        """Return a packet from which the picture at `pts` can be decoded as from the beginning.

        The last key frame before the picture is not enough: pictures may refer past it, and a
        deinterlacer and the decoder's output order need some more. 0 if only the beginning is safe.
        Must be called with increasing times.
        """
        keys = [number for number, time in self._keys if time <= pts]
        if self._uncertain or not keys:
            return 0
        # Also the next one, so that there are two where keys are far apart.
        earlier = [number for number in keys[:-1] if number <= keys[-1] - _LEAST_LEAD]
        if not earlier:
            return 0
        while self._keys and self._keys[0][0] < earlier[-1]:
            self._keys.popleft()
        return earlier[-1]
