import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.fidelity_films import SIZE, film, memory
from tests.trainer.film_clips import clip_of_scenes
from tests.trainer.loop_process import MadeUpFrames
from trainer import checkpoint
from trainer.checkpoint import CheckpointError
from trainer.errors import TrainerError
from trainer.export import load_torchscript
from trainer.prepare import Sampling, prepare
from trainer.recipes.fidelity import perceptual as fidelity_perceptual
from trainer.recipes.fidelity import recipe as fidelity
from trainer.recipes.fidelity.perceptual import Discriminator, Perceptual, detail
from trainer.recipes.fidelity.sizes import SIZES
from trainer.run import Run
from trainer.validate import validate

pytestmark = pytest.mark.slow

torch.set_num_threads(1)  # networks this small only wait for a second one


def learner() -> Perceptual:
    torch.manual_seed(0)
    return Perceptual(memory(), SIZE)


def frames() -> Tensor:
    return film().everything()[50::100]


def weights(network: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in network.parameters()]).clone()


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "small", SIZE)
        yield


def train(data: Path, run: Path, *more: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--fit", default="all")
    fidelity.add_arguments(parser)
    both = ["--data", str(data), "--run", str(run), "--device", "cpu", "--batch", "2"]
    fidelity.train(parser.parse_args([*both, *more]))


def finish(data: Path, run: Path, previous: Path, *more: str) -> None:
    train(data, run, "--finish", "perceptual", "--from", str(previous), *more)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    clip = clip_of_scenes(folder / "film.mp4", [9, 7])
    prepare([clip], folder / "data", Sampling(), lambda done, total: None)
    return folder / "data"


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of fidelity that a finish can continue from."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    train(data, run, "--steps", "3")
    return run


def pictures(run: Path, shown: Tensor) -> Tensor:
    """What a run's published pair makes of frames."""
    encoder = load_torchscript(run / "encoder.pt")
    decoder = load_torchscript(run / "decoder.pt")
    with torch.inference_mode():
        generated: Tensor = decoder(encoder(shown)[0])[0]
    return generated


def learned(run: Path) -> dict[str, Any]:
    state = checkpoint.load(checkpoint.paths(run)[-1])["learner"]
    assert isinstance(state, dict)
    return state


def assert_equal(ours: object, theirs: object) -> None:
    if isinstance(ours, Tensor):
        assert isinstance(theirs, Tensor) and torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert isinstance(theirs, dict) and ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert_equal(value, theirs[key])
    else:
        assert ours == theirs


def test_it_starts_at_the_pictures_of_the_run_before(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    finish(data, tmp_path, finished, "--steps", "0")
    average = learned(finished)["average"]
    assert isinstance(average, dict) and average["tail.weight"].abs().max() > 0
    assert torch.equal(pictures(tmp_path, frames()), pictures(finished, frames()))


def test_what_it_publishes_keeps_the_contract_and_the_latents(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    finish(data, tmp_path, finished, "--steps", "3")
    encoder, decoder = (load_torchscript(tmp_path / name) for name in ("encoder.pt", "decoder.pt"))
    validate(encoder, decoder)
    before = load_torchscript(finished / "encoder.pt")
    for ours, theirs in zip(encoder(frames()), before(frames()), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(
        decoder.pictures(encoder(frames())[0]),
        load_torchscript(finished / "decoder.pt").pictures(encoder(frames())[0]),
    )
    facts = Run(tmp_path).facts()
    assert facts["recipe"] == "fidelity"
    settings, training = facts["settings"], facts["training"]
    assert isinstance(settings, dict) and settings["finish"] == "perceptual"
    assert isinstance(training, dict) and training["steps"] == 3


def test_a_finish_after_a_restart_reaches_the_same_bits(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    finish(data, tmp_path / "once", finished, "--steps", "4")
    # All that a kill leaves of the first life is its checkpoint and the memory; the run that it
    # began from may be gone by then.
    moved = shutil.copytree(finished, tmp_path / "moved")
    finish(data, tmp_path / "twice", moved, "--steps", "2")
    shutil.rmtree(moved)
    for name in ("run.json", "encoder.pt", "decoder.pt"):
        (tmp_path / "twice" / name).unlink()
    finish(data, tmp_path / "twice", moved, "--steps", "4")
    assert_equal(learned(tmp_path / "twice"), learned(tmp_path / "once"))
    assert Run(tmp_path / "twice").is_finished()


def test_the_discriminator_learns_to_tell_and_the_refinement_moves() -> None:
    one = learner()
    before = weights(one.refinement)
    unknown = MadeUpFrames(3)  # to the memory, which paints them badly
    shown = torch.from_numpy(unknown.frames(unknown.fitted))
    losses = []
    for step in range(40):
        torch.manual_seed(step)
        losses.append(float(one.step(shown)["discriminator"]))
    # 1 is what a discriminator that has no idea loses.
    assert losses[0] == pytest.approx(1, abs=0.1)
    assert sum(losses[-8:]) / 8 < 0.7
    assert (weights(one.refinement) - before).abs().max() > 0
    assert (weights(one.average) - before).abs().max() > 0


def test_the_films_features_are_not_moved_to_meet_the_generated() -> None:
    one = learner()
    before = weights(one.discriminator)
    one.discriminator_optimiser.param_groups[0]["lr"] = 0.0
    one.step(frames())
    assert torch.equal(weights(one.discriminator), before)  # only its own optimiser moves it


def test_of_a_picture_the_discriminator_sees_the_detail_and_nothing_else() -> None:
    network = learner().discriminator.eval()  # spectral norms stay as they are
    torch.manual_seed(1)
    remembered, picture = torch.rand(2, 2, 3, 72, 128)
    coarse = nn.functional.interpolate(torch.rand(2, 3, 36, 64), scale_factor=2.0)
    fine = 0.1 * torch.rand(2, 3, 72, 128)
    assert detail(coarse).abs().max() < 1e-6
    assert nn.functional.avg_pool2d(detail(fine), 2).abs().max() < 1e-6
    with torch.no_grad():
        seen, moved, changed = (
            network(picture + more, remembered)[0] for more in (0.0, coarse, fine)
        )
    assert len(seen) == 3  # levels
    for one, same, other in zip(seen, moved, changed, strict=True):
        assert torch.allclose(one, same, atol=1e-4)
        assert (one - other).abs().max() > 1e-3


def test_the_refinement_heeds_the_discriminator_after_its_head_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fidelity_perceptual, "_HEAD_START", 1)
    one, other = learner(), learner()
    other.discriminator = Discriminator()  # of other weights
    assert not torch.equal(weights(one.discriminator), weights(other.discriminator))
    after = []
    for step in range(2):
        for each in (one, other):
            torch.manual_seed(step)
            each.step(frames())
        after.append((weights(one.refinement), weights(other.refinement)))
    assert torch.equal(*after[0])
    assert not torch.equal(*after[1])


def test_it_learns_from_windows_across_the_frame() -> None:
    place = torch.arange(144 * 256).view(1, 1, 144, 256).expand(1, 3, -1, -1).float()
    seen = torch.zeros(144 * 256, dtype=torch.bool)
    torch.manual_seed(0)
    for _ in range(200):
        truth, remembered = fidelity_perceptual._windows(place, place + 1)
        assert torch.equal(truth + 1, remembered)
        corner = int(truth[0, 0, 0, 0])
        assert corner // 256 % 4 == 0 and corner % 256 % 4 == 0  # as patches lie
        seen[truth[0, 0].flatten().long()] = True
    assert truth.shape == (1, 3, 72, 128)
    assert seen.float().mean() > 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--finish", "perceptual"], "starts from a finished run of fidelity: pass --from ITS_RUN"),
        (["--from", "RUN"], "--from needs --finish perceptual"),
        (["--finish", "perceptual", "--from", "nowhere"], "nowhere holds no checkpoint to start"),
        (
            ["--finish", "perceptual", "--from", "RUN", "--fit", "fitted"],
            "was trained with --fit all: its finish needs the same",
        ),
        (
            ["--finish", "perceptual", "--from", "RUN", "--size", "large"],
            "was trained with --size small: its finish needs the same",
        ),
    ],
)
def test_what_does_not_follow_is_refused(
    arguments: list[str], message: str, data: Path, finished: Path, tmp_path: Path
) -> None:
    named = [str(finished) if word == "RUN" else word for word in arguments]
    with pytest.raises(TrainerError, match=message):
        train(data, tmp_path / "run", *named)
    assert not (tmp_path / "run").exists()


def test_a_finish_resumes_from_fidelity_on_the_same_frames(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    clip = clip_of_scenes(tmp_path / "other.mp4", [3])
    prepare([clip], tmp_path / "other", Sampling(), lambda done, total: None)
    with pytest.raises(CheckpointError, match="was trained on other frames than those in"):
        finish(tmp_path / "other", tmp_path / "run", finished)
    finish(data, tmp_path / "finish", finished, "--steps", "0")
    with pytest.raises(CheckpointError, match="is a run of fidelity perceptual: a finish starts"):
        finish(data, tmp_path / "run", tmp_path / "finish")
    (tmp_path / "finish" / "memory.pt").unlink()
    with pytest.raises(CheckpointError, match="holds no memory: a finish starts from a run of"):
        finish(data, tmp_path / "run", tmp_path / "finish")
