"""Reading a film while it arrives, and stopping."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from film.errors import FilmCancelledError
from film.read.film_reader import FilmReader
from film.spool import Spool, SpoolRoom
from tests.film.clips import Track, make_clip, number_of

WAIT = 60
FRAMES = 360
BATCH = 16

STREAMED = {
    "mp4, index first": ("a.mp4", {"movflags": "faststart", "sound": [Track()]}),
    "mp4, fragmented": (
        "a.mp4",
        {"movflags": "frag_keyframe+empty_moov+default_base_moof", "sound": [Track()]},
    ),
    "mp4, fragmented with a segment index": (
        "a.mp4",
        {"movflags": "frag_keyframe+dash+global_sidx", "sound": [Track()]},
    ),
    "matroska": ("a.mkv", {"sound": [Track("libopus")]}),
    "mpegts": ("a.ts", {"container": "mpegts", "sound": [Track("mp2")]}),
    "avi": ("a.avi", {"codec": "mpeg4", "sound": [Track("libmp3lame")]}),
}


@dataclass
class Reading:
    """A film being read on a thread of its own, as the service does it."""

    spool: Spool
    first: threading.Event = field(default_factory=threading.Event)
    pts: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    sound: int = 0

    def run(self) -> None:
        with self.spool.open() as file, FilmReader(file) as reader:
            for batch in reader.batches(BATCH):
                self.pts += batch.pts.tolist()
                self.numbers += [number_of(frame) for frame in batch.frames]
                self.sound += len(batch.sound)
                self.first.set()


@pytest.fixture
def spool() -> Iterator[Spool]:
    with Spool(SpoolRoom(None, 1 << 30), 1 << 30) as spool:
        yield spool


@pytest.mark.parametrize("kind", STREAMED)
def test_the_first_pictures_come_while_the_film_arrives(
    kind: str, tmp_path: Path, spool: Spool
) -> None:
    name, options = STREAMED[kind]
    clip = make_clip(tmp_path / name, frames=FRAMES, **options)
    data = clip.path.read_bytes()
    reading = Reading(spool)
    with ThreadPoolExecutor() as pool:
        result = pool.submit(reading.run)
        # A part of the film, and no end: whoever waits for more waits for ever.
        spool.write(data[: len(data) * 3 // 5])
        try:
            assert reading.first.wait(WAIT), "no picture before the film had all arrived"
            spool.write(data[len(data) * 3 // 5 :])
            spool.finish()
            result.result(WAIT)
        finally:
            spool.cancel()
    assert reading.numbers == list(range(FRAMES))
    assert np.all(np.diff(reading.pts) > 0)
    assert reading.sound > 100


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_an_index_at_the_end_is_read_when_all_has_arrived(
    name: str, tmp_path: Path, spool: Spool
) -> None:
    clip = make_clip(tmp_path / name, frames=48, sound=[Track()])
    data = clip.path.read_bytes()
    assert data.index(b"moov") > data.index(b"mdat")
    reading = Reading(spool)
    with ThreadPoolExecutor() as pool:
        result = pool.submit(reading.run)
        for start in range(0, len(data), 1000):
            spool.write(data[start : start + 1000])
        spool.finish()
        result.result(WAIT)
    assert reading.numbers == list(range(48))


def test_the_result_does_not_depend_on_how_the_bytes_arrive(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=48, sound=[Track("libopus")])
    data = clip.path.read_bytes()
    results = []
    for step in (97, len(data)):
        with Spool(SpoolRoom(None, 1 << 30), 1 << 30) as spool, ThreadPoolExecutor() as pool:
            reading = Reading(spool)
            result = pool.submit(reading.run)
            for start in range(0, len(data), step):
                spool.write(data[start : start + step])
            spool.finish()
            result.result(WAIT)
            results.append((reading.pts, reading.numbers, reading.sound))
    assert results[0] == results[1]


def test_cancelling_wakes_a_reader_that_waits_for_bytes(tmp_path: Path, spool: Spool) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=FRAMES)
    data = clip.path.read_bytes()
    reading = Reading(spool)
    with ThreadPoolExecutor() as pool:
        result = pool.submit(reading.run)
        spool.write(data[: len(data) // 2])
        assert reading.first.wait(WAIT)
        spool.cancel()
        with pytest.raises(FilmCancelledError):
            result.result(WAIT)


@pytest.mark.parametrize("share", [0, 100])
def test_cancelling_wakes_a_reader_that_opens(share: int, tmp_path: Path, spool: Spool) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=FRAMES)
    spool.write(clip.path.read_bytes()[:share])
    with ThreadPoolExecutor() as pool:
        result = pool.submit(Reading(spool).run)
        spool.cancel()
        with pytest.raises(FilmCancelledError):
            result.result(WAIT)


def test_cancelling_stops_a_reader_that_has_all_its_bytes(tmp_path: Path, spool: Spool) -> None:
    """A small file can hold hours of pictures: decoding stops, not only reading."""
    clip = make_clip(tmp_path / "a.mp4", frames=FRAMES, movflags="faststart")
    spool.write(clip.path.read_bytes())
    spool.finish()
    with spool.open() as file, FilmReader(file) as reader:
        batches = reader.batches(1)
        next(batches)
        spool.cancel()
        with pytest.raises(FilmCancelledError):
            for _ in range(FRAMES // 2):
                next(batches)


def test_a_closed_reader_gives_no_more(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=FRAMES)
    with clip.path.open("rb") as file:
        with FilmReader(file) as reader:
            batches = reader.batches(4)
            next(batches)
        assert sum(len(batch.pts) for batch in batches) < FRAMES
