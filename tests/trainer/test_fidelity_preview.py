"""What whoever watches sees while the memory of `fidelity` is fitted."""

import json
import time
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.trainer.fidelity_films import SIZE, FilmInMemory, film, psnr, train
from trainer import preview
from trainer.dataset import FrameDataset
from trainer.export import to_frames, to_pictures
from trainer.preview import PreviewFrames
from trainer.recipes.fidelity import memory_preview as fidelity_preview
from trainer.recipes.fidelity import recipe as fidelity
from trainer.recipes.fidelity.memory import Memory, fit_memory
from trainer.recipes.fidelity.memory_preview import MemoryPreview
from trainer.recipes.fidelity.recipe import Fidelity

pytestmark = pytest.mark.slow

torch.set_num_threads(1)


class Killed(BaseException):
    """The process is no more."""


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small model of a film that is there already, drawn after every segment."""
    monkeypatch.setattr(fidelity, "SIZES", {"small": SIZE})
    monkeypatch.setattr(fidelity, "REFERENCE_FRAMES", 6)
    monkeypatch.setattr(fidelity, "fitted_data", lambda data, fit: film())
    monkeypatch.setattr(preview, "_SHARE", 1e9)
    monkeypatch.setattr(fidelity_preview, "EVERY_SECONDS", 0.0)


@cache
def growing() -> tuple[Memory, ...]:
    """The memory of the film after each of its segments."""
    found: list[Memory] = []
    data = cast(FrameDataset, film())
    fit_memory(data, SIZE.memory, lambda count: None, lambda memory, of: found.append(memory))
    return tuple(found)


def curve(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "preview.jsonl").read_text().splitlines()]


def killed_before_the_first_step(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Fidelity, "step", step)
        train(run, "--steps", "2")


def test_the_film_is_learned_scene_by_scene_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, Image.Image]] = []
    real = MemoryPreview.on_basis

    def on_basis(self: MemoryPreview, memory: Memory, of: int) -> None:
        real(self, memory, of)
        with Image.open(tmp_path / "preview.png") as picture:
            seen.append((len(memory.bases), picture.copy()))

    monkeypatch.setattr(MemoryPreview, "on_basis", on_basis)
    killed_before_the_first_step(tmp_path, monkeypatch)
    assert [number for number, _ in seen] == [1, 2, 3]
    assert len({picture.tobytes() for _, picture in seen}) == 3

    *fitting, begun = curve(tmp_path)
    assert [line["bases"] for line in fitting] == [1, 2, 3]
    decibels = [line["psnr"] for line in fitting]
    assert decibels[0] + 3 < decibels[1] < decibels[2] - 3
    seconds = [line["seconds"] for line in (*fitting, begun)]
    assert 0 < seconds[0] < seconds[1] < seconds[2] == seconds[3]
    assert begun["step"] == 0 and begun["psnr"] == decibels[2]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_frame_is_shown_through_the_basis_that_suits_it_of_those_there_are() -> None:
    partial = growing()
    assert [len(memory.bases) for memory in partial] == [1, 2, 3]
    frames = torch.from_numpy(PreviewFrames.of(film()).frames)  # two of each scene
    with torch.no_grad():
        pictures = [memory.decoder()(memory.encoder()(to_pictures(frames))) for memory in partial]
    known = [
        [
            psnr(to_frames(picture[None]), frame[None]) > 35
            for picture, frame in zip(made, frames, strict=True)
        ]
        for made in pictures
    ]
    assert known == [
        [True, True, False, False, False, False],
        [True, True, True, True, False, False],
        [True] * 6,
    ]


def test_the_lines_of_the_memory_survive_a_resume_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_before_the_first_step(tmp_path, monkeypatch)
    fitting = curve(tmp_path)[:3]
    train(tmp_path, "--steps", "1")
    train(tmp_path, "--steps", "2")
    again = curve(tmp_path)
    assert again[:3] == fitting
    assert [line["step"] for line in again[3:]] == [0, 1, 2]
    seconds = [line["seconds"] for line in again]
    assert seconds == sorted(seconds) and seconds[-1] > fitting[-1]["seconds"]


def test_the_lines_of_a_fit_that_starts_over_start_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fit_memory

    def fit(data: object, size: object, on_frames: object, on_basis: object) -> Memory:
        assert callable(on_basis)

        def killed(memory: Memory, of: int) -> None:
            on_basis(memory, of)
            if len(memory.bases) == 2:
                raise Killed

        return real(data, size, on_frames, killed)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(fidelity, "fit_memory", fit)
        train(tmp_path, "--steps", "0")
    assert [line["bases"] for line in curve(tmp_path)] == [1, 2]
    train(tmp_path, "--steps", "0")
    *fitting, begun = curve(tmp_path)
    assert [line["bases"] for line in fitting] == [1, 2, 3] and begun["step"] == 0


def test_the_counter_shows_its_psnr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.counter._LINE_SECONDS", 0.0)
    train(tmp_path, "--steps", "0")
    counted = [line for line in capsys.readouterr().err.splitlines() if "frames/s" in line]
    first = f"preview {curve(tmp_path)[0]['psnr']:.1f} dB"
    assert not any("preview" in line for line in counted[:3]) and first in "".join(counted)


def test_frames_that_are_held_out_come_last_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = tuple(range(8, 16))
    data = FilmInMemory(film().everything()[50:82].numpy(), held_out)
    monkeypatch.setattr(fidelity, "fitted_data", lambda folder, fit: data)
    labelled: list[list[str]] = []
    real = preview._paint

    def paint(*drawn: object) -> Image.Image:
        labelled.append(cast(list[str], drawn[2]))
        return real(*drawn)  # type: ignore[arg-type]

    monkeypatch.setattr(preview, "_paint", paint)
    train(tmp_path, "--fit", "fitted", "--steps", "0")
    assert curve(tmp_path)[0]["bases"] == 1
    assert ["held out" in label for label in labelled[0]] == [False] * 3 + [True] * 3


def test_drawing_takes_no_more_than_a_tenth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.undo()
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def remembered(self: MemoryPreview, memory: Memory) -> NDArray[np.uint8]:
        nonlocal now
        now += 0.5  # to draw
        return PreviewFrames.of(film()).frames

    monkeypatch.setattr(MemoryPreview, "_reconstructions", remembered)
    told: list[float] = []
    drawn = MemoryPreview(tmp_path, film(), told.append)
    parts = growing()
    for memory in [*parts[:1] * 20, *parts[1:]]:
        now += 1.0  # to find a basis
        drawn.on_basis(memory, 22)
    drawn.end(parts[-1])
    # Of the 22 seconds that finding took, none of them the drawing's.
    assert [line["seconds"] for line in curve(tmp_path)] == [1, 6, 11, 16, 21, 22]
    assert len(told) == 6
