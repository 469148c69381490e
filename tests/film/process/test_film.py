"""A film in a process of its own gives what reading and writing it here gives."""

import asyncio
import os
import signal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from film.errors import (
    DamagedFilmError,
    FilmCrashedError,
    FilmError,
    FilmLimitError,
    FilmProcessLostError,
    NotAFilmError,
)
from film.limits import FilmLimits, ReadLimits
from film.output import Layout, OutputSettings, Size
from film.process.film_process import FilmProcess, FilmProcesses
from film.process.protocol import CUBE_MAIN, FILM_MAIN
from film.process.spawner import Spawner
from film.read.film_reader import FilmReader
from film.write.film_writer import FilmWriter
from film.write.segment_writer import SegmentWriter
from film.write.sequence import SequenceWriter
from tests.film.clips import Clip, Track, make_clip
from tests.film.process.asking import descriptors_open
from tests.film.process.sources import GrowingFilm, StoredFilm

SIDE_BY_SIDE = OutputSettings(layout=Layout.SIDE_BY_SIDE, size=Size.SOURCE)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, frames=24 * 5, sound=[Track()])


@pytest.fixture
async def spawner():
    spawner = Spawner([FILM_MAIN, CUBE_MAIN])
    yield spawner
    await spawner.close()


@pytest.fixture
def processes(spawner: Spawner) -> FilmProcesses:
    return FilmProcesses(spawner, FilmLimits())


async def streamed(film: FilmProcess, settings: OutputSettings) -> tuple[bytes, tuple[str, ...]]:
    await film.open(settings)
    await film.begin_stream(settings)
    parts = []
    while (batch := await film.next()) is not None:
        parts.append((await film.write(batch, 255 - batch.frames)).data)
    end = await film.close()
    return b"".join([*parts, end.data]), end.warnings


def streamed_here(path: Path, settings: OutputSettings) -> bytes:
    from film.output import picture_size

    made: list[bytes] = []
    with (
        path.open("rb") as file,
        FilmReader(file, picture_size=lambda facts: picture_size(facts, settings)) as reader,
    ):
        writer = FilmWriter(made.append, reader.facts, reader.sound_streams, settings)
        for batch in reader.batches(32):
            writer.write(batch, 255 - batch.frames)
        writer.close()
    return b"".join(made)


@pytest.mark.parametrize("settings", [OutputSettings(), SIDE_BY_SIDE])
async def test_a_stored_film_becomes_the_same_stream(
    processes: FilmProcesses, clip: Clip, settings: OutputSettings
):
    async with processes.film(StoredFilm(clip.path)) as film:
        data, warnings = await streamed(film, settings)
    assert data == streamed_here(clip.path, settings)
    assert warnings == ()


async def test_a_film_that_still_arrives_is_read_as_far_as_it_came(
    processes: FilmProcesses, clip: Clip
):
    source = GrowingFilm(clip.path, clip.path.stat().st_size // 2)
    async with processes.film(source) as film:
        streaming = asyncio.ensure_future(streamed(film, OutputSettings()))
        await source.waited.wait()
        assert film.waiting_since is not None
        await source.arrive()
        data, _ = await streaming
        assert film.waiting_since is None
    assert data == streamed_here(clip.path, OutputSettings())


async def test_segments_and_their_resume_points_are_the_same(processes: FilmProcesses, clip: Clip):
    async with processes.film(StoredFilm(clip.path)) as film:
        await film.open(OutputSettings(), segmented=True)
        await film.begin_segments(OutputSettings(), None)
        segments: list[Any] = []
        init = None
        while (batch := await film.next()) is not None:
            assert len(batch.detail) == len(batch.pts)
            written = await film.write(batch, batch.frames)
            segments += written.segments
            init = written.init or init
        written = await film.close()
        segments += written.segments
        init = written.init or init

    with clip.path.open("rb") as file, FilmReader(file, segmented=True) as reader:
        writer = SegmentWriter(reader.facts, reader.sound_streams, OutputSettings())
        here = []
        for part in reader.batches(32):
            here += writer.write(part, part.frames)
        here += writer.close(reader.warnings)
    assert segments == here
    assert init == writer.init

    async with processes.film(StoredFilm(clip.path)) as film:
        resume = segments[0].resume
        await film.open(OutputSettings(), segmented=True, resume=resume)
        await film.begin_segments(OutputSettings(), resume)
        again: list[Any] = []
        while (batch := await film.next()) is not None:
            again += (await film.write(batch, batch.frames)).segments
        again += (await film.close()).segments
    assert again == here[1:]


async def test_a_sequence_is_the_same(processes: FilmProcesses):
    frames = np.random.default_rng(1).integers(0, 256, (40, 144, 256, 3), np.uint8)
    async with processes.film() as film:
        await film.begin_sequence(Fraction(24), 40)
        parts = [await film.write_frames(frames), await film.close()]
    made: list[bytes] = []
    with SequenceWriter(made.append, Fraction(24), 40) as writer:
        writer.write(frames[:32])
        writer.write(frames[32:])
    assert b"".join(part.data for part in parts) == b"".join(made)


async def test_what_is_no_film_is_said_to_be_none(processes: FilmProcesses, tmp_path: Path):
    path = tmp_path / "text"
    path.write_bytes(b"Once upon a time " * 1000)
    async with processes.film(StoredFilm(path)) as film:
        with pytest.raises(NotAFilmError, match="no film can be read"):
            await film.open(OutputSettings())


async def test_limits_of_reading_are_held_in_the_process(spawner: Spawner, clip: Clip):
    processes = FilmProcesses(spawner, FilmLimits(read=ReadLimits(pictures=24)))
    async with processes.film(StoredFilm(clip.path)) as film:
        await film.open(OutputSettings())
        batch = await film.next()
        assert batch is not None and len(batch.pts) == 24
        with pytest.raises(FilmLimitError, match="more than 24 pictures") as refused:
            await film.next()
        assert refused.value.reason == "FILM_LIMIT_PICTURES"


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (signal.SIGSEGV, FilmCrashedError),
        (signal.SIGABRT, FilmCrashedError),
        (signal.SIGKILL, FilmProcessLostError),
        (signal.SIGXCPU, FilmLimitError),
    ],
)
async def test_a_process_that_dies_is_reported_of_by_what_killed_it(
    processes: FilmProcesses, clip: Clip, sent: signal.Signals, kind: type[Exception]
):
    source = GrowingFilm(clip.path, clip.path.stat().st_size // 2)
    async with processes.film(source) as film, processes.film(StoredFilm(clip.path)) as other:
        streaming = asyncio.ensure_future(streamed(film, OutputSettings()))
        await source.waited.wait()
        os.kill(film.pid, sent)
        with pytest.raises(kind):
            await streaming
        assert (await streamed(other, OutputSettings()))[0]


async def test_memory_is_limited(spawner: Spawner, clip: Clip):
    processes = FilmProcesses(spawner, FilmLimits(memory_bytes=30 << 20))
    async with processes.film(StoredFilm(clip.path)) as film:
        with pytest.raises(FilmLimitError, match="31457280 bytes of memory") as refused:
            await streamed(film, SIDE_BY_SIDE)
    assert refused.value.limit == "memory_bytes"


async def test_output_is_limited(spawner: Spawner, clip: Clip):
    processes = FilmProcesses(spawner, FilmLimits(output_bytes=1000))
    async with processes.film(StoredFilm(clip.path)) as film:
        with pytest.raises(FilmLimitError, match="more than 1000 bytes"):
            await streamed(film, OutputSettings())


async def test_what_the_source_raises_ends_the_film(processes: FilmProcesses, clip: Clip):
    class Away(StoredFilm):
        async def read(self, offset: int, length: int) -> bytes:
            raise DamagedFilmError("the store is away")

    async with processes.film(Away(clip.path)) as film:
        with pytest.raises(DamagedFilmError, match="the store is away"):
            await film.open(OutputSettings())


async def test_who_leaves_leaves_nothing_behind(processes: FilmProcesses, clip: Clip):
    async with processes.film(StoredFilm(clip.path)) as film:
        await film.open(OutputSettings())
    source = GrowingFilm(clip.path, 1000)
    before = descriptors_open()
    for _ in range(3):
        async with processes.film(source) as film:
            opening = asyncio.ensure_future(film.open(OutputSettings()))
            await source.waited.wait()
            opening.cancel()
        with pytest.raises(ProcessLookupError):
            os.kill(film.pid, 0)
    assert descriptors_open() == before


async def test_errors_of_films_keep_their_kind(
    processes: FilmProcesses, clip: Clip, tmp_path: Path
):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.path.read_bytes()[: clip.path.stat().st_size * 2 // 3])
    with pytest.raises(FilmError) as here:
        streamed_here(cut, OutputSettings())
    async with processes.film(StoredFilm(cut)) as film:
        with pytest.raises(type(here.value)) as there:
            await streamed(film, OutputSettings())
    assert str(there.value) == str(here.value)
