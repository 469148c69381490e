import argparse
import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.film_clips import clip_of_scenes
from tests.trainer.loop_process import MadeUpFrames
from trainer import checkpoint
from trainer.checkpoint import CheckpointError
from trainer.errors import TrainerError
from trainer.export import load_torchscript, save_torchscript
from trainer.loop import Precision
from trainer.prepare import Sampling, prepare
from trainer.recipes import RECIPES
from trainer.recipes.broad2016 import recipe as broad2016
from trainer.recipes.broad2016.networks import (
    PUBLISHED_CHANNELS,
    Decoder,
    Discriminator,
    Encoder,
    fix_statistics,
    initialise,
)
from trainer.recipes.broad2016.recipe import NOISE, Broad2016, Broad2016Config
from trainer.run import Run
from trainer.validate import validate

pytestmark = pytest.mark.slow

torch.set_num_threads(1)  # networks this small only wait for a second one

SMALL = Broad2016Config(channels=(4, 6, 8, 10))


def frames(count: int = 6) -> Tensor:
    data = MadeUpFrames(count)
    return torch.from_numpy(data.frames(data.fitted))


def learner(config: Broad2016Config = SMALL) -> Broad2016:
    torch.manual_seed(0)
    return Broad2016(config, frames())


def weights(network: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in network.parameters()]).clone()


def test_the_networks_are_of_the_published_sizes() -> None:
    with torch.device("meta"):
        encoder, decoder = Encoder(PUBLISHED_CHANNELS), Decoder(PUBLISHED_CHANNELS)
        discriminator = Discriminator(PUBLISHED_CHANNELS)
        pictures, latents = torch.empty(2, 3, 144, 256), torch.empty(2, 200)
        mean, log_variance = encoder(pictures)
        assert mean.shape == log_variance.shape == (2, 200)
        assert decoder(latents).shape == (2, 3, 144, 256)
        verdict, features = discriminator(pictures)
    assert verdict.shape == (2, 1)
    assert [tuple(level.shape[1:]) for level in features] == [
        (80, 72, 128),
        (160, 36, 64),
        (320, 18, 32),
        (640, 9, 16),
    ]
    kernels = {
        (module.kernel_size, module.stride)
        for network in (encoder, decoder, discriminator)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    }
    assert kernels == {((5, 5), (2, 2))}


def test_optimisers_hold_exactly_their_own_networks_weights() -> None:
    one = learner()
    held = [
        {id(weight) for group in optimiser.param_groups for weight in group["params"]}
        for optimiser in (one.encoder_optimiser, one.decoder_optimiser, one.discriminator_optimiser)
    ]
    own = [
        {id(weight) for weight in network.parameters()}
        for network in (one.encoder, one.decoder, one.discriminator)
    ]
    assert held == own
    assert one.decoder_optimiser.defaults["lr"] == 2e-4
    assert one.decoder_optimiser.defaults["betas"] == (0.5, 0.999)


def test_the_discriminator_reaches_the_decoder_and_only_the_decoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(adversary: float) -> Broad2016:
        monkeypatch.setattr(broad2016, "_ADVERSARY_WEIGHT", adversary)
        one = learner()
        torch.manual_seed(1)
        one.step(frames())
        return one

    without, with_it = step(0.0), step(1.0)
    assert not torch.equal(weights(without.decoder), weights(with_it.decoder))
    assert torch.equal(weights(without.encoder), weights(with_it.encoder))
    assert torch.equal(weights(without.discriminator), weights(with_it.discriminator))


def test_only_the_decoder_weighs_similarity_and_the_discriminator_ignores_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(likeness: float) -> Broad2016:
        real = broad2016._feature_distance
        monkeypatch.setattr(broad2016, "_feature_distance", lambda *each: likeness * real(*each))
        one = learner()
        torch.manual_seed(1)
        one.step(frames())
        monkeypatch.undo()
        return one

    without, with_it = step(0.0), step(1.0)
    assert not torch.equal(weights(without.encoder), weights(with_it.encoder))
    assert not torch.equal(weights(without.decoder), weights(with_it.decoder))
    assert torch.equal(weights(without.discriminator), weights(with_it.discriminator))


def test_a_picture_is_decoded_alike_in_any_company(tmp_path: Path) -> None:
    one = learner()
    for _ in range(3):
        one.step(frames())
    halves = one.served(frames())
    for module, name in zip(halves, ("encoder.pt", "decoder.pt"), strict=True):
        save_torchscript(module, tmp_path / name)
    encoder = load_torchscript(tmp_path / "encoder.pt")
    decoder = load_torchscript(tmp_path / "decoder.pt")
    with torch.inference_mode():
        latents, embeddings = encoder(frames())
        pictures, found = decoder(latents)
        alone = [encoder(frame[None]) for frame in frames()]
        black = torch.zeros(3, 144, 256, 3, dtype=torch.uint8)
        mixed = encoder(torch.cat([frames()[:1], black]))[0][:1]
    assert latents.shape == embeddings.shape == (6, 200)
    assert latents.dtype == embeddings.dtype == torch.float32
    assert pictures.shape == (6, 144, 256, 3) and pictures.dtype == torch.uint8
    assert latents.abs().max() <= 1
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(torch.cat([each[0] for each in alone]), latents)
    torch.testing.assert_close(mixed, latents[:1])
    torch.testing.assert_close(found, embeddings)
    again = torch.cat([decoder(each[0])[0] for each in alone])
    assert (again.int() - pictures.int()).abs().max() <= 1


def test_statistics_are_those_of_the_inputs_and_nothing_before() -> None:
    first = nn.BatchNorm2d(2)
    norm = nn.Sequential(first)
    initialise(norm)
    norm.train()
    norm(torch.full((4, 2, 3, 3), 1000.0))  # training leaves no trace
    torch.manual_seed(0)
    inputs = torch.randn(64, 2, 5, 5) * 3 + 7
    fix_statistics(norm, inputs.split(16))
    with torch.no_grad():
        normal = (norm(inputs) - first.bias[:, None, None]) / first.weight[:, None, None]
    assert normal.mean().abs() < 0.02
    assert (normal.std() - 1).abs() < 0.02


def test_looking_at_samples_does_not_change_the_training() -> None:
    looked, not_looked = learner(), learner()
    for one in (looked, not_looked):
        for step in range(3):
            torch.manual_seed(step)
            one.step(frames())
            if one is looked:
                one.reconstruct(frames(2))
    assert torch.equal(weights(looked.encoder), weights(not_looked.encoder))
    assert torch.equal(weights(looked.decoder), weights(not_looked.decoder))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_to_tell_colours_apart(precision: Precision) -> None:
    colours = torch.tensor([[200, 30, 30], [30, 60, 200], [240, 240, 200]], dtype=torch.uint8)
    film = colours[:, None, None, :].expand(3, 144, 256, 3).contiguous()
    torch.manual_seed(0)
    one = Broad2016(Broad2016Config(0.0, (16, 16, 16, 16), precision), film)

    def error() -> float:
        """Say by how many grey levels its pictures are wrong."""
        return float((one.reconstruct(film).float() - film.float()).abs().mean())

    before = error()
    for step in range(40):
        torch.manual_seed(step)
        one.step(film)
    assert error() < before - 2


def run_options(data: Path, run: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--fit", default="fitted")
    broad2016.add_arguments(parser)
    both = ["--data", str(data), "--run", str(run), "--device", "cpu", "--batch", "2"]
    return parser.parse_args([*both, *more])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    clip = clip_of_scenes(folder / "film.mp4", [5, 4])
    prepare([clip], folder / "data", Sampling(), lambda done, total: None)
    return folder / "data"


def train(options: argparse.Namespace) -> None:
    broad2016.train(options, SMALL.channels)


def test_six_trainings_resume_from_one_another(data: Path, tmp_path: Path) -> None:
    before: list[str] = []
    for number in range(1, 7):
        run = tmp_path / f"run{number}"
        train(run_options(data, run, "--training", str(number), "--steps", "1", *before))
        before = ["--from", str(run)]
        facts = Run(run).facts()
        settings = facts["settings"]
        assert isinstance(settings, dict)
        assert (settings["training"], settings["noise"]) == (number, NOISE[number - 1])
        validate(load_torchscript(run / "encoder.pt"), load_torchscript(run / "decoder.pt"))
    # Adam counts its steps: six, for they are one long training.
    state = checkpoint.load(checkpoint.paths(tmp_path / "run6")[-1])["learner"]
    assert isinstance(state, dict)
    assert state["decoder_optimiser"]["state"][0]["step"] == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training", "2"], "training 2 starts from training 1: pass --from ITS_RUN"),
        (["--from", "other"], "training 1 starts from scratch: leave --from out"),
        (["--training", "2", "--from", "nowhere"], "nowhere holds no checkpoint to start from"),
    ],
)
def test_what_does_not_follow_is_refused(
    arguments: list[str], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainerError, match=message):
        train(run_options(data, tmp_path / "run", *arguments))


def test_a_training_goes_on_only_from_the_one_before(data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    train(run_options(data, first, "--steps", "1"))
    options = run_options(data, tmp_path / "run", "--training", "3", "--from", str(first))
    with pytest.raises(CheckpointError, match="is training 1; training 3 starts from training 2"):
        train(options)


def test_a_finished_run_is_left_as_it_is_and_more_steps_go_on(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run_options(data, run, "--steps", "2"))
    finished = (run / "run.json").read_bytes()
    train(run_options(data, run, "--steps", "2"))
    assert (run / "run.json").read_bytes() == finished
    train(run_options(data, run, "--steps", "3"))
    training = Run(run).facts()["training"]
    assert isinstance(training, dict)
    assert (training["steps"], training["frames_seen"]) == (3, 6)


def test_noise_only_falls_and_ends_at_none() -> None:
    assert len(NOISE) == 6
    assert list(NOISE) == sorted(NOISE, reverse=True)
    assert NOISE[0] == 1.0 and NOISE[-1] == 0.0


def test_the_three_defects_are_named_where_they_are_fixed() -> None:
    source = inspect.getsource(broad2016)
    documented = ast.get_docstring(ast.parse(source)) or ""
    for defect in ("swapped variables", "variables listed too early", "batch statistics at"):
        assert f"**{defect}" in documented
        assert f'"{defect}' in source.replace(documented, "")


def test_training_needs_no_pyav() -> None:
    modules = "trainer.__main__, trainer.dataset, trainer.loop, trainer.publish, trainer.evaluate"
    recipes = ", ".join(RECIPES.values())
    code = f"import sys; sys.modules['av'] = None; import {modules}, {recipes}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
