"""Reconstructions as tests make and read them: the model frames themselves stand in for decoded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from film.facts import FilmFacts, SoundTrack
from film.output import OutputSettings, picture_size
from film.read.batch import FilmBatch
from film.read.film_reader import FilmReader
from film.write.film_writer import FilmWriter
from tests.film.clips import picture


@dataclass(frozen=True)
class Packet:
    """One packet as a player sees it."""

    time: Fraction
    duration: Fraction
    data: bytes = field(repr=False)
    key: bool


@dataclass(frozen=True)
class Output:
    """What a writer made."""

    data: bytes = field(repr=False)
    times: list[Fraction] = field(repr=False)
    """The pictures' times in the film, in seconds."""
    origin: Fraction
    warnings: list[str]
    facts: FilmFacts

    def open(self) -> av.container.InputContainer:
        return av.open(BytesIO(self.data), "r")

    def pictures(self) -> list[Packet]:
        with self.open() as container:
            return packets(container, container.streams.video[0].index)

    def sound(self, track: int = 0) -> list[Packet]:
        with self.open() as container:
            return packets(container, container.streams.audio[track].index)

    def expected_times(self) -> list[Fraction]:
        return [time - self.origin for time in self.times]


def packets(container: av.container.InputContainer, index: int) -> list[Packet]:
    """Read a stream's packets in presentation order."""
    found = [
        Packet(p.pts * p.time_base, (p.duration or 0) * p.time_base, bytes(p), bool(p.is_keyframe))
        for p in container.demux(container.streams[index])
        if p.size and p.pts is not None
    ]
    return sorted(found, key=lambda packet: packet.time)


def source_sound(path: Path, track: int = 0) -> list[Packet]:
    """Read a film's sound packets."""
    with av.open(path, "r") as container:
        return packets(container, container.streams.audio[track].index)


def samples(file: Path | BytesIO) -> tuple[Fraction, NDArray[np.float32]]:
    """Decode the first sound track: when its first sample is heard, and the left channel."""
    with av.open(file, "r") as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        resampler = av.AudioResampler(format="fltp")
        parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
        return frames[0].pts * frames[0].time_base, np.concatenate(parts)


def reconstruct(path: Path, settings: OutputSettings | None = None, batch: int = 16) -> Output:
    """Read a film and write it again."""
    settings = settings or OutputSettings()
    chunks: list[bytes] = []
    times: list[Fraction] = []
    with path.open("rb") as file:
        reader = FilmReader(
            file,
            picture_size=lambda facts: picture_size(facts, settings),
            sound=settings.sound,
        )
        with reader:
            writer = FilmWriter(chunks.append, reader.facts, reader.sound_streams, settings)
            for part in reader.batches(batch):
                times += [int(pts) * reader.facts.time_base for pts in part.pts]
                writer.write(part, part.frames)
            writer.close()
            assert max(map(len, chunks)) <= 1 << 20
            assert sum(map(len, chunks)) == writer.bytes
            return Output(b"".join(chunks), times, writer.origin, writer.warnings, reader.facts)


def facts(
    *,
    width: int = 256,
    height: int = 144,
    sar: Fraction = Fraction(1),
    rotation: int = 0,
    time_base: Fraction = Fraction(1, 24),
    rate: Fraction | None = Fraction(24),
    duration: Fraction | None = None,
    sound: Sequence[SoundTrack] = (),
) -> FilmFacts:
    """Describe a film that only exists as batches."""
    return FilmFacts(
        container="mp4",
        video_codec="h264",
        width=width,
        height=height,
        sample_aspect_ratio=sar,
        rotation=rotation,
        average_frame_rate=rate,
        time_base=time_base,
        duration=duration,
        estimated_frames=None,
        interlaced=False,
        transfer="bt709",
        tone_mapped=False,
        bit_depth=8,
        sound_tracks=tuple(sound),
    )


def batch(
    pts: Iterable[int],
    durations: Iterable[int] | None = None,
    sound: Sequence[av.Packet] = (),
    frames: NDArray[np.uint8] | None = None,
) -> FilmBatch:
    """Make a batch whose pictures carry their own number."""
    times = np.array(list(pts), np.int64)
    lengths = np.zeros_like(times) if durations is None else np.array(list(durations), np.int64)
    if frames is None:
        shown = [picture(int(time) % 1024, 256, 144) for time in times]
        frames = np.stack(shown) if shown else np.zeros((0, 144, 256, 3), np.uint8)
    return FilmBatch(frames=frames, pts=times, durations=lengths, sound=list(sound))


def write(
    film: FilmFacts, batches: Iterable[FilmBatch], settings: OutputSettings | None = None
) -> Output:
    """Write batches without sound."""
    chunks: list[bytes] = []
    times: list[Fraction] = []
    with FilmWriter(chunks.append, film, (), settings or OutputSettings()) as writer:
        for part in batches:
            times += [int(pts) * film.time_base for pts in part.pts]
            writer.write(part, part.frames)
    return Output(b"".join(chunks), times, writer.origin, writer.warnings, film)
