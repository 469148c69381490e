import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainer.fidelity_films import SIZE, STRETCH, FilmInMemory, film, memory, psnr, train
from trainer import checkpoint
from trainer.errors import RunError
from trainer.export import load_torchscript, pictures_of, to_frames, to_pictures
from trainer.loop import Precision
from trainer.publish import publish
from trainer.recipes.fidelity import recipe as fidelity
from trainer.recipes.fidelity.memory import Memory
from trainer.recipes.fidelity.networks import KEY_SIZE
from trainer.recipes.fidelity.recipe import Fidelity
from trainer.run import Run
from trainer.validate import validate

pytestmark = pytest.mark.slow

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def tiny() -> Iterator[None]:
    """A small model, a film that is there already, and few frames for the whitening."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(fidelity, "SIZES", {"small": SIZE})
        changed.setattr(fidelity, "REFERENCE_FRAMES", 6)
        changed.setattr(fidelity, "fitted_data", lambda data, fit: film())
        changed.setattr(fidelity, "fit_memory", lambda *_: memory())
        yield


def some_frames(count: int = 7) -> Tensor:
    return film().everything()[5 :: 3 * STRETCH // count][:count]


def remembered(frames: Tensor) -> Tensor:
    """What the memory alone makes of frames."""
    with torch.inference_mode():
        return to_frames(memory().decoder()(memory().encoder()(to_pictures(frames))))


def trained(steps: int = 3) -> Fidelity:
    torch.manual_seed(0)
    learner = Fidelity(memory(), SIZE)
    for step in range(steps):
        torch.manual_seed(step)
        learner.step(some_frames(2))
    return learner


@pytest.fixture(scope="module")
def memory_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "memory"
    train(run, "--steps", "0")
    return run


@pytest.fixture
def run(memory_run: Path, tmp_path: Path) -> Path:
    """A run of no steps, to go on with."""
    return Path(shutil.copytree(memory_run, tmp_path / "run"))


@pytest.fixture(scope="module")
def learner() -> Fidelity:
    """One whose refinement does something already."""
    return trained()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_begins_at_the_memorys_picture(precision: Precision) -> None:
    begun = Fidelity(memory(), SIZE, precision)
    assert torch.equal(begun.reconstruct(some_frames()), remembered(some_frames()))


def test_it_learns_what_the_memory_does_not_know() -> None:
    grain = 6 * ((torch.arange(144)[:, None] // 2 + torch.arange(256)) % 2)[:, :, None]
    truth = (some_frames(4).int() + grain - 3).clamp(0, 255).to(torch.uint8)
    torch.manual_seed(0)
    one = Fidelity(memory(), SIZE)
    floor = psnr(remembered(truth), truth)
    for _ in range(40):
        told = one.step(truth)
    assert psnr(one.reconstruct(truth), truth) > floor + 1
    # What it says on the way is what it will be found to be.
    assert float(told["gained"]) > 1
    assert float(told["psnr"]) == pytest.approx(psnr(one.reconstruct(truth), truth), abs=2)


def shown_to(one: Fidelity, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return a list that fills with what a learner learns from."""
    shown: list[Tensor] = []
    encode = one._encode_with_noise

    def recorded(truth: Tensor) -> tuple[Tensor, Tensor]:
        shown.append(truth)
        return encode(truth)

    monkeypatch.setattr(one, "_encode_with_noise", recorded)
    return shown


def test_for_frames_unseen_it_learns_from_parts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Fidelity(memory(), SIZE, unseen=True)
    shown = shown_to(one, monkeypatch)
    truth = some_frames(4).clone()
    truth[:, :, :128], truth[:, :, 128:] = 40, 200  # dark on the left, light on the right
    torch.manual_seed(0)
    for _ in range(5):
        one.step(truth)
    assert torch.equal(to_frames(shown[0][:2]), truth[:2])
    parts = 255 * torch.cat([pictures[2:] for pictures in shown])
    assert parts.shape == (10, 3, 144, 256)
    assert parts.min() > 20 and parts.max() < 220
    # The edge is still one, upright, but in many places, and the dark on either side.
    assert (parts.std(2) < 2).all()
    edges = (parts[:, 0, 70].diff(dim=1).abs() > 20).float().argmax(1)
    assert len(edges.unique()) > 5
    is_mirrored = parts[:, 0, 70, 0] > parts[:, 0, 70, -1]
    assert 0 < int(is_mirrored.sum()) < 10


def test_for_frames_seen_it_learns_from_them_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Fidelity(memory(), SIZE)
    shown = shown_to(one, monkeypatch)
    one.step(some_frames(2))
    assert torch.equal(to_frames(shown[0]), some_frames(2))


def test_weights_of_the_latent_learn_at_a_tenth_of_the_rate() -> None:
    before, after = trained(0).refinement.state_dict(), trained(6).refinement.state_dict()
    moved = {
        latent: max(
            float((value - before[name]).abs().max())
            for name, value in after.items()
            if name.endswith("weight") and ("condition" in name) == latent
        )
        for latent in (True, False)
    }
    # Adam's steps are about as long as the rate, whatever the gradient.
    assert 0 < moved[True] < 0.2 * moved[False]


def test_it_learns_the_slower_the_less_the_memory_leaves_to_learn() -> None:
    """At the whole rate it would spoil what is nearly right already."""
    frames = some_frames()
    grain = 20 * ((torch.arange(144)[:, None] // 2 + torch.arange(256)) % 2)[:, :, None]
    rough = (frames.int() + grain - 10).clamp(0, 255).to(torch.uint8)
    fine = psnr(remembered(frames), frames)
    assert fine > 34 and psnr(remembered(rough), rough) < 32
    rates = {}
    for name, shown in (("fine", frames), ("rough", rough)):
        one = Fidelity(memory(), SIZE)
        one.calibrate_rate(shown)
        one.steps = 10_000  # past the warm steps
        one.step(shown[:2])
        rates[name] = one.optimiser.param_groups[0]["lr"]
    # Parts of pictures that it shows well are not shown so well: they ask for more.
    unseen = Fidelity(memory(), SIZE, unseen=True)
    unseen.calibrate_rate(frames)
    assert unseen.rate > 1.5 * rates["fine"]
    assert rates["rough"] == 1e-3
    assert rates["fine"] == pytest.approx(1e-3 * 10 ** ((32 - fine) / 10), rel=0.2)


def test_looking_at_samples_does_not_change_the_training(learner: Fidelity) -> None:
    torch.manual_seed(0)
    looked = Fidelity(memory(), SIZE)
    for step in range(3):
        looked.reconstruct(some_frames(1))
        torch.manual_seed(step)
        looked.step(some_frames(2))
    for name, value in learner.refinement.state_dict().items():
        assert torch.equal(value, looked.refinement.state_dict()[name]), name


def test_no_steps_publish_the_memory_alone(memory_run: Path) -> None:
    frames = some_frames()
    encoder = load_torchscript(memory_run / "encoder.pt")
    decoder = load_torchscript(memory_run / "decoder.pt")
    with torch.inference_mode():
        pictures = decoder(encoder(frames)[0])[0]
    assert torch.equal(pictures, remembered(frames))
    assert psnr(pictures, frames) > 40
    facts = Run(memory_run).facts()
    training, settings = facts["training"], facts["settings"]
    assert isinstance(training, dict) and isinstance(settings, dict)
    assert (training["steps"], training["frames_seen"]) == (0, 0)
    assert (settings["size"], settings["bases"], settings["fit"]) == ("small", 3, "all")


class Killed(BaseException):
    """The process is no more."""


def test_killed_and_started_again_it_reaches_the_same_bits(
    run: Path, memory_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path(shutil.copytree(memory_run, tmp_path / "whole"))
    train(whole, "--steps", "4")

    real = Fidelity.step

    def step(self: Fidelity, frames: Tensor) -> Mapping[str, Tensor]:
        losses = real(self, frames)
        if self.steps == 3:
            raise Killed
        return losses

    monkeypatch.setattr(Fidelity, "step", step)
    with pytest.raises(Killed):
        train(run, "--steps", "4", "--checkpoint-minutes", "0")
    assert checkpoint.step_of(checkpoint.paths(run)[-1]) == 2
    monkeypatch.setattr(Fidelity, "step", real)
    train(run, "--steps", "4")

    assert (run / "encoder.pt").read_bytes() == (whole / "encoder.pt").read_bytes()
    assert (run / "decoder.pt").read_bytes() == (whole / "decoder.pt").read_bytes()
    assert (run / "decoder.pt").read_bytes() != (memory_run / "decoder.pt").read_bytes()
    again, once = (checkpoint.load(checkpoint.paths(each)[-1]) for each in (run, whole))
    torch.testing.assert_close(again["learner"], once["learner"], atol=0, rtol=0)


def test_a_memory_is_fitted_once_a_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> Memory:
        raise Killed

    monkeypatch.setattr(fidelity, "fit_memory", killed)
    train(run, "--steps", "0")
    with pytest.raises(Killed):
        train(tmp_path / "new", "--steps", "0")
    # Whoever was killed while fitting begins again.
    monkeypatch.undo()
    train(tmp_path / "new", "--steps", "0")
    assert Run(tmp_path / "new").is_finished()


def test_a_finished_run_is_left_as_it_is(run: Path) -> None:
    finished = (run / "run.json").read_bytes()
    train(run, "--steps", "0")
    assert (run / "run.json").read_bytes() == finished


def test_the_memory_of_another_film_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = FilmInMemory(film().everything().numpy())
    other.digest = "sha256:other"
    monkeypatch.setattr(fidelity, "fitted_data", lambda data, fit: other)
    with pytest.raises(RunError, match="holds a memory of other frames or another size: choose"):
        train(run, "--steps", "0")


def test_a_damaged_memory_is_reported(run: Path) -> None:
    path = run / "memory.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"memory\.pt .*damaged"):
        train(run, "--steps", "1")


def test_the_pair_keeps_the_contract_and_runs_as_published(
    learner: Fidelity, tmp_path: Path
) -> None:
    encoder, decoder = learner.served(some_frames())
    card = {"recipe": "fidelity", "films": [], "frames": 3 * STRETCH}
    publish(encoder, decoder, name="film", card=card, repository=tmp_path)
    served = load_torchscript(tmp_path / "film_encoder" / "1" / "model.pt")
    painting = load_torchscript(tmp_path / "film_decoder" / "1" / "model.pt")
    validate(served, painting)
    frames = some_frames(7)
    with torch.inference_mode():
        latents, embeddings = served(frames)
        ours = encoder(frames)
        pictures, found = painting(latents)
        assert torch.equal(latents, ours[0]) and torch.equal(embeddings, ours[1])
        assert torch.equal(pictures, decoder(latents)[0])
        assert torch.equal(found, embeddings)
        for number in range(7):
            row = slice(number, number + 1)
            torch.testing.assert_close(served(frames[row])[0], latents[row], atol=1e-3, rtol=1e-4)
            alone = painting(latents[row])
            assert (alone[0].int() - pictures[row].int()).abs().max() <= 1
            torch.testing.assert_close(alone[1], embeddings[row], atol=1e-3, rtol=0)
    assert torch.equal(pictures, learner.reconstruct(frames))
    assert not torch.equal(pictures, remembered(frames))


def test_embeddings_tell_scenes_apart(learner: Fidelity) -> None:
    encoder, _ = learner.served(some_frames())
    frames = film().everything()[5::20]
    with torch.inference_mode():
        bright = (frames.float() * 0.9 + 5).round().to(torch.uint8)
        likeness = encoder(bright)[1] @ encoder(frames)[1].T
    assert torch.equal(likeness.argmax(1), torch.arange(len(frames)))


def test_latents_can_be_learned_through_the_pictures(learner: Fidelity, tmp_path: Path) -> None:
    encoder, decoder = learner.served(some_frames())
    truth = to_pictures(some_frames(2))
    with torch.no_grad():
        latents = encoder(some_frames(2))[0]
        latents[:, KEY_SIZE:] *= 0.8
        # Half a step towards another basis, so that keys count as well.
        latents[:, :KEY_SIZE] = (memory().keys[0] + memory().keys[1]) / 2
    latents.requires_grad_()
    before = (decoder.pictures(latents) - truth).square().mean()
    (gradient,) = torch.autograd.grad(before, latents)
    assert bool(torch.isfinite(gradient).all())
    assert bool(gradient[:, :KEY_SIZE].ne(0).any(1).all())
    assert bool(gradient[:, KEY_SIZE:].ne(0).any(1).all())
    shorter = latents.detach() - 0.01 * gradient / gradient.norm()
    with torch.no_grad():
        assert (decoder.pictures(shorter) - truth).square().mean() < before
        rounded = to_frames(decoder.pictures(latents))
        assert torch.equal(rounded, decoder(latents)[0])


def test_what_is_held_out_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.recipes.fidelity.memory import fit_memory

    held_out = tuple(range(8, 16))
    frames = film().everything()[50:82].numpy()
    others = frames.copy()
    others[list(held_out)] = 255 - others[list(held_out)]
    monkeypatch.setattr(fidelity, "fit_memory", fit_memory)
    pairs = []
    for name, given in (("one", frames), ("other", others)):
        data = FilmInMemory(np.ascontiguousarray(given), held_out)
        monkeypatch.setattr(fidelity, "fitted_data", lambda folder, fit, data=data: data)
        run = tmp_path / name
        train(run, "--fit", "fitted", "--steps", "2")
        pairs.append([(run / half).read_bytes() for half in ("encoder.pt", "decoder.pt")])
        settings = Run(run).facts()["settings"]
        assert isinstance(settings, dict)
        assert (settings["fit"], settings["bases"]) == ("fitted", 2)
    assert pairs[0] == pairs[1]
    # It is told from the memory of a film in segments by what it makes of unseen frames.
    decoder = load_torchscript(tmp_path / "one" / "decoder.pt")
    encoder = load_torchscript(tmp_path / "one" / "encoder.pt")
    unseen = torch.from_numpy(frames[list(held_out)])
    with torch.inference_mode():
        shown = decoder(encoder(unseen)[0])[0]
    assert pictures_of(decoder)(torch.zeros(1, 200)).shape == (1, 3, 144, 256)
    assert psnr(shown, unseen) > 20
