"""Reading a film while it arrives."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from film.read.film_reader import FilmReader
from tests.film.arriving import ArrivingFile
from tests.film.clips import Track, make_clip, number_of

WAIT = 60
FRAMES = 360
BATCH = 16

STREAMED: dict[str, tuple[str, dict[str, Any]]] = {
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

    file: ArrivingFile
    first: threading.Event = field(default_factory=threading.Event)
    pts: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    sound: int = 0

    def run(self) -> None:
        with FilmReader(self.file) as reader:
            for batch in reader.batches(BATCH):
                self.pts += batch.pts.tolist()
                self.numbers += [number_of(frame) for frame in batch.frames]
                self.sound += len(batch.sound)
                self.first.set()


@pytest.mark.parametrize("kind", STREAMED)
def test_the_first_pictures_come_while_the_film_arrives(kind: str, tmp_path: Path) -> None:
    name, options = STREAMED[kind]
    clip = make_clip(tmp_path / name, frames=FRAMES, **options)
    data = clip.path.read_bytes()
    reading = Reading(ArrivingFile())
    with ThreadPoolExecutor() as pool:
        result = pool.submit(reading.run)
        # A part of the film, and no end: whoever waits for more waits forever.
        reading.file.arrive(data[: len(data) * 3 // 5])
        try:
            assert reading.first.wait(WAIT), "no picture before the film had all arrived"
            reading.file.arrive(data[len(data) * 3 // 5 :])
            reading.file.finish()
            result.result(WAIT)
        finally:
            reading.file.give_up()
    assert reading.numbers == list(range(FRAMES))
    assert np.all(np.diff(reading.pts) > 0)
    assert reading.sound > 100


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_an_index_at_the_end_is_read_when_all_has_arrived(name: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / name, frames=48, sound=[Track()])
    data = clip.path.read_bytes()
    assert data.index(b"moov") > data.index(b"mdat")
    reading = Reading(ArrivingFile())
    with ThreadPoolExecutor() as pool:
        result = pool.submit(reading.run)
        for start in range(0, len(data), 1000):
            reading.file.arrive(data[start : start + 1000])
        reading.file.finish()
        result.result(WAIT)
    assert reading.numbers == list(range(48))


def test_the_result_does_not_depend_on_how_the_bytes_arrive(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=48, sound=[Track("libopus")])
    data = clip.path.read_bytes()
    results = []
    for step in (97, len(data)):
        with ThreadPoolExecutor() as pool:
            reading = Reading(ArrivingFile())
            result = pool.submit(reading.run)
            for start in range(0, len(data), step):
                reading.file.arrive(data[start : start + step])
            reading.file.finish()
            result.result(WAIT)
            results.append((reading.pts, reading.numbers, reading.sound))
    assert results[0] == results[1]


def test_a_closed_reader_gives_no_more(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=FRAMES)
    with clip.path.open("rb") as file:
        with FilmReader(file) as reader:
            batches = reader.batches(4)
            next(batches)
        assert sum(len(batch.pts) for batch in batches) < FRAMES
