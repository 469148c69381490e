"""The retrieval benchmark counts what it should, on two small films and one distortion."""

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import retrieval
from benchmarks.distortions import Brightening, Distortion
from benchmarks.report import Machine
from benchmarks.retrieval_films import distorted_film, library_film
from benchmarks.retrieval_page import METHODS, page

MACHINE = Machine(2, "Some Processor", 0.25, "abc1234", "2026-01-01")
FRAMES = 24 * 14


def colours(seed: int, still: range = range(0)) -> NDArray[np.uint8]:
    """Pictures that differ from second to second; those in `still` are all one picture."""
    rng = np.random.default_rng(seed)
    shots = rng.integers(20, 230, (FRAMES // 24 + 1, 9, 16, 3))
    frames = []
    for number in range(FRAMES):
        place = still.start if number in still else number
        shot, part = divmod(place, 24)
        mixed = shots[shot] + (shots[shot + 1] - shots[shot]) * part / 24
        frames.append(np.kron(mixed, np.ones((10, 10, 1))).astype(np.uint8))
    return np.stack(frames)


def encode(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed by averages, of which a brightening changes little."""
    averages = frames.reshape(len(frames), 9, 16, 16, 16, 3).mean((2, 4)).reshape(len(frames), -1)
    averages -= averages.mean(axis=1, keepdims=True)
    projection = np.random.default_rng(0).normal(size=(432, 200))
    embeddings = averages @ projection
    return (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    return [tmp_path / "one.mp4", tmp_path / "other.mp4"]


def test_right_answers_ambiguous_queries_and_unknown_clips_are_counted(
    films: list[Path], tmp_path: Path
) -> None:
    write(films[0], colours(1, still=range(24 * 4, 24 * 12)))
    write(films[1], colours(2))
    library = retrieval.Library([library_film(path, encode) for path in films])
    is_ambiguous = retrieval.Ambiguity(library, 0)
    assert is_ambiguous(slice(30, 45)) and not is_ambiguous(slice(0, 15))

    bright = Distortion("brightened", brightening=Brightening(1.05, 0.9, 0.03))
    path, every = distorted_film(films[0], bright, tmp_path)
    counts = retrieval.measure(library, 0, path, every, encode, is_ambiguous)
    assert set(counts) == set(retrieval.LENGTHS)
    three = counts[3]
    assert three.queries == three.unknown > three.unique > 0
    assert three.right[METHODS[0]] == three.answered == three.unique
    assert three.rejected == three.unknown

    text = page({"one": {("brightened", length): one for length, one in counts.items()}}, MACHINE)
    assert text.count("\n| brightened | **100.0**") == len(retrieval.LENGTHS)
    assert f"| one | 3 s | {three.unknown} | {three.unknown} | 100.0 |" in text


def write(path: Path, frames: NDArray[np.uint8]) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=24, options={"preset": "ultrafast", "crf": "18"})
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = frames.shape[1:3]
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
