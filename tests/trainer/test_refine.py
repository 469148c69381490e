import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.models import TinyDecoder, TinyEncoder
from tests.trainer.film_clips import clip_of_scenes
from trainer.__main__ import main
from trainer.dataset import FrameDataset
from trainer.evaluate import model_of_run
from trainer.export import LATENT_SIZE, load_torchscript, to_frames
from trainer.frame_metrics import psnr
from trainer.refine import RefineSettings, refine
from trainer.run import Run


class Encoder(nn.Module):
    """The tiny encoder, its numbers off by something else in every frame."""

    def __init__(self, mistake: float) -> None:
        super().__init__()
        self.tiny = TinyEncoder(7)
        self.mistake = mistake

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        right = self.tiny(frames)[0]
        latents = right + self.mistake * torch.sin(40.0 * right)
        return latents, self.tiny.whiten(latents)


class Decoder(nn.Module):
    """The tiny decoder, with its pictures; their gradient may point the wrong way."""

    def __init__(self, *, misleading: bool = False) -> None:
        super().__init__()
        self.tiny = TinyDecoder(7)
        self.misleading = misleading

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return to_frames(self.pictures(latents)), self.tiny.whiten(latents)

    @torch.jit.export
    def pictures(self, latents: Tensor) -> Tensor:
        if self.misleading:  # the same numbers
            latents = 2.0 * latents.detach() - latents
        averages = torch.matmul(latents, self.tiny.weights).reshape(-1, 3, 9, 16)
        return nn.functional.interpolate(averages, size=(144, 256)) + 0.5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FrameDataset:
    folder = tmp_path_factory.mktemp("film")
    clip_of_scenes(folder / "film.mp4", [5, 4, 4])
    assert call("prepare", folder / "film.mp4", "--out", folder / "data") == 0
    return FrameDataset.open(folder / "data")


def call(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def finish(run: Path, encoder: nn.Module, decoder: nn.Module, data: FrameDataset) -> Path:
    Run(run).finish(encoder, decoder, recipe="tiny", settings={}, data=data, training={})
    return run


def served(run: Path, latents: np.ndarray, data: FrameDataset) -> np.ndarray:
    """PSNR of what the run's decoder serves of latents, frame by frame."""
    frames = torch.from_numpy(data.frames(np.arange(len(data))))
    shown = load_torchscript(run / "decoder.pt")(torch.from_numpy(latents))[0]
    return np.asarray(psnr(frames, shown))


def encoded(run: Path, data: FrameDataset) -> np.ndarray:
    frames = torch.from_numpy(data.frames(np.arange(len(data))))
    return np.asarray(load_torchscript(run / "encoder.pt")(frames)[0])


def test_what_a_bad_encoder_got_wrong_is_fixed(
    data: FrameDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = finish(tmp_path / "good", Encoder(0.0), Decoder(), data)
    bad = finish(tmp_path / "bad", Encoder(0.4), Decoder(), data)
    best, worst = (served(run, encoded(run, data), data) for run in (good, bad))
    assert best.mean() > worst.mean() + 2

    out = tmp_path / "refined"
    arguments = ("--data", data.folder, "--out", out, "--batch", 7, "--steps", 50)
    assert call("refine", "--run", bad, *arguments) == 0
    latents = np.load(out / "latents.npy")
    assert latents.shape == (13, LATENT_SIZE) and latents.dtype == np.float32
    after = served(bad, latents, data)
    assert (after > best - 0.2).all()

    told = json.loads((out / "metrics.json").read_text())
    everything = told["groups"]["all"]
    assert everything["frames"] == 13 and everything["share_improved"] == 1.0
    assert everything["psnr_before"]["mean"] == pytest.approx(worst.mean(), abs=1e-3)
    assert everything["psnr_before"]["worst_5_percent"] == pytest.approx(worst.min(), abs=1e-3)
    assert everything["psnr_after"]["mean"] == pytest.approx(after.mean(), abs=1e-3)
    assert told["settings"].items() >= {"steps": 50, "batch": 7, "bits": None}.items()
    assert f'"mean": {everything["psnr_after"]["mean"]}' in capsys.readouterr().err


def test_no_frame_gets_worse_where_every_step_is_wrong(data: FrameDataset, tmp_path: Path) -> None:
    run = finish(tmp_path / "run", Encoder(0.2), Decoder(misleading=True), data)
    out = tmp_path / "out"
    refine(model_of_run(run), data, out, RefineSettings(steps=5), lambda count: None)
    assert np.array_equal(np.load(out / "latents.npy"), encoded(run, data))
    told = json.loads((out / "metrics.json").read_text())["groups"]["all"]
    assert told["psnr_after"] == told["psnr_before"] and told["share_improved"] == 0


def test_latents_of_few_bits_are_refined_as_they_are_kept(
    data: FrameDataset, tmp_path: Path
) -> None:
    run = finish(tmp_path / "run", Encoder(0.4), Decoder(), data)
    out = tmp_path / "out"
    arguments = ("--data", data.folder, "--out", out, "--steps", 40, "--bits", 3)
    assert call("refine", "--run", run, *arguments) == 0
    latents = np.load(out / "latents.npy")
    assert all(len(np.unique(numbers)) <= 2**3 for numbers in latents.T)
    told = json.loads((out / "metrics.json").read_text())["groups"]["all"]
    after = served(run, latents, data)
    assert told["psnr_after"]["mean"] == pytest.approx(after.mean(), abs=1e-3)
    assert told["psnr_after"]["mean"] > told["psnr_before"]["mean"] + 1


def test_a_frames_latent_does_not_depend_on_its_batch(data: FrameDataset, tmp_path: Path) -> None:
    run = finish(tmp_path / "run", Encoder(0.4), Decoder(), data)
    found = []
    for batch in (4, 13):
        settings = RefineSettings(steps=5, batch=batch)
        refine(model_of_run(run), data, tmp_path / "out", settings, lambda count: None)
        found.append(np.load(tmp_path / "out" / "latents.npy"))
    assert np.allclose(found[0], found[1], atol=1e-4)
    assert not np.allclose(found[0], encoded(run, data), atol=1e-2)


def test_what_is_interrupted_leaves_the_earlier_refinement(
    data: FrameDataset, tmp_path: Path
) -> None:
    run = finish(tmp_path / "run", Encoder(0.4), Decoder(), data)
    out = tmp_path / "out"
    seen = 0

    def interrupt(count: int) -> None:
        nonlocal seen
        seen += count
        if seen > len(data) + 4:
            raise KeyboardInterrupt

    for earlier in (set[str](), {"latents.npy", "metrics.json"}):
        before = {path.name: path.read_bytes() for path in out.glob("*")}
        assert before.keys() == set(earlier)
        seen = 0
        with pytest.raises(KeyboardInterrupt):
            refine(model_of_run(run), data, out, RefineSettings(2, 4), interrupt)
        assert {path.name: path.read_bytes() for path in out.glob("*")} == before
        refine(model_of_run(run), data, out, RefineSettings(1, 4), lambda count: None)


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail with a plain message; return the message."""
    assert call("refine", *arguments) == 1
    told = capsys.readouterr().err
    assert "Error: " in told and "Traceback" not in told
    return told


def test_mistakes_are_reported_in_one_line(
    data: FrameDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish(tmp_path / "run", Encoder(0.0), Decoder(), data)
    old = finish(tmp_path / "old", TinyEncoder(7), TinyDecoder(7), data)
    out = tmp_path / "out"
    assert "no method `pictures`" in error_of(
        capsys, "--run", old, "--data", data.folder, "--out", out
    )
    assert "needs --name" in error_of(
        capsys, "--repository", tmp_path, "--data", data.folder, "--out", out
    )
    shutil.copytree(data.folder, tmp_path / "empty")
    with np.load(data.folder / "index.npz") as index:
        np.savez(tmp_path / "empty" / "index.npz", **{name: index[name][:0] for name in index})
    assert "the data set is empty" in error_of(
        capsys, "--run", run, "--data", tmp_path / "empty", "--out", out
    )
    assert not out.exists()
    (run / "evaluation").mkdir()
    (run / "evaluation" / "metrics.json").write_text("{}")
    assert "already holds other metrics" in error_of(
        capsys, "--run", run, "--data", data.folder, "--out", run / "evaluation"
    )


def test_a_published_model_is_refined_by_name(data: FrameDataset, tmp_path: Path) -> None:
    run = finish(tmp_path / "run", Encoder(0.4), Decoder(), data)
    repository = tmp_path / "models"
    assert call("publish", "--run", run, "--name", "tiny", "--repository", repository) == 0
    where = ("--repository", repository, "--name", "tiny", "--version", 1)
    out = tmp_path / "out"
    assert call("refine", *where, "--data", data.folder, "--out", out, "--steps", 2) == 0
    told = json.loads((out / "metrics.json").read_text())
    assert told["model"]["label"] == "tiny, version 1"
