from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.models import TinyDecoder, TinyEncoder
from tests.trainer.fidelity_films import memory
from trainer.errors import ContractError
from trainer.export import (
    Whitening,
    devices_in_code,
    load_torchscript,
    pictures_of,
    save_torchscript,
    to_frames,
    to_pictures,
)
from trainer.recipes.broad2016.networks import Decoder, ServedDecoder, initialise
from trainer.recipes.fidelity import networks as fidelity_networks
from trainer.recipes.pca import Components, PcaDecoder


def test_frames_round_trip_through_pictures() -> None:
    frames = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(2, 16, 16, 3)
    assert torch.equal(to_frames(to_pictures(frames)), frames)


def test_levels_are_rounded_to_the_nearest_and_clipped() -> None:
    levels = torch.tensor([0.49, 0.51, 254.49, 254.51, -40.0, 300.0, float("inf"), float("nan")])
    pictures = (levels / 255).reshape(1, 1, 1, 8).expand(1, 3, 1, 8)
    assert to_frames(pictures)[0, 0, :, 0].tolist() == [0, 1, 254, 255, 0, 255, 255, 0]


def test_embeddings_of_the_statistics_own_latents_are_white() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(200, 200, generator=generator)
    latents = torch.randn(5000, 200, generator=generator) @ mixing + 3
    whitening = Whitening(latents.mean(0), torch.cov(latents.T))
    embeddings = whitening(latents)
    assert torch.allclose(torch.linalg.vector_norm(embeddings, dim=1), torch.ones(5000))
    covariance = torch.cov(embeddings.T) * 200
    assert torch.allclose(covariance, torch.eye(200), atol=0.12)


@pytest.mark.parametrize(
    "covariance",
    [torch.zeros(200, 200), torch.diag(torch.cat([torch.ones(1), torch.zeros(199)]))],
    ids=["nothing varies", "one direction varies"],
)
def test_embeddings_are_finite_and_of_length_one_whatever_the_latent(covariance: Tensor) -> None:
    latents = torch.stack(
        [torch.zeros(200), torch.ones(200), torch.full((200,), 1e30), torch.full((200,), 1e-30)]
    )
    embeddings = Whitening(torch.zeros(200), covariance)(latents)
    assert torch.isfinite(embeddings).all()
    assert torch.allclose(torch.linalg.vector_norm(embeddings, dim=1), torch.ones(4))


def test_a_file_gives_the_modules_own_bits(tmp_path: Path) -> None:
    module = TinyEncoder(7)
    save_torchscript(module, tmp_path / "model.pt")
    frames = torch.randint(0, 256, (3, 144, 256, 3), dtype=torch.uint8)
    for ours, theirs in zip(
        load_torchscript(tmp_path / "model.pt")(frames), module(frames), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_file_says_nothing_of_where_it_was_made(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        save_torchscript(TinyEncoder(7), tmp_path / folder / "model.pt")
    content = (tmp_path / "here" / "model.pt").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert content == (tmp_path / "there" / "model.pt").read_bytes()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_names_no_device_and_a_traced_one_does() -> None:
    def shifted(latents: Tensor) -> Tensor:
        return latents + torch.zeros(200, device=latents.device)

    traced = torch.jit.trace(nn.Identity(), torch.zeros(1, 200))
    assert devices_in_code(torch.jit.script(TinyEncoder(1))) == []
    assert devices_in_code(traced) == []

    class Shifted(nn.Module):
        def forward(self, latents: Tensor) -> Tensor:
            return shifted(latents)

    assert devices_in_code(torch.jit.trace(Shifted(), torch.zeros(1, 200))) == ["cpu"]


def test_what_is_no_torchscript_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK not really")
    with pytest.raises(ContractError, match=r"model\.pt is not a TorchScript module"):
        load_torchscript(tmp_path / "model.pt")


def pca_decoder(whitening: Whitening) -> nn.Module:
    pixels = 144 * 256 * 3
    components = Components(torch.rand(pixels), torch.randn(pixels, 200) * 0.02, torch.ones(200))
    components.whitening = whitening
    return PcaDecoder(components)


def broad2016_decoder(whitening: Whitening) -> nn.Module:
    decoder = Decoder((8, 8, 8, 8))
    initialise(decoder)
    return ServedDecoder(decoder, whitening).eval()


def fidelity_decoder(whitening: Whitening) -> nn.Module:
    refinement = fidelity_networks.Refinement(8, 1)
    nn.init.normal_(refinement.tail.weight, std=0.01)
    return fidelity_networks.ServedDecoder(
        memory().decoder(), refinement, memory().common(), whitening
    )


@pytest.mark.parametrize("make", [pca_decoder, broad2016_decoder, fidelity_decoder])
def test_a_decoder_exports_the_pictures_it_rounds(
    make: Callable[[Whitening], nn.Module], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    decoder = make(Whitening(torch.zeros(200), torch.eye(200)))
    save_torchscript(decoder, tmp_path / "model.pt")
    loaded = load_torchscript(tmp_path / "model.pt")
    latents = torch.randn(3, 200, requires_grad=True)
    pictures = pictures_of(loaded)(latents)
    assert pictures.shape == (3, 3, 144, 256) and pictures.dtype == torch.float32
    assert torch.equal(to_frames(pictures.detach()), loaded(latents)[0])
    (gradient,) = torch.autograd.grad(pictures.square().sum(), latents)
    assert bool(gradient.ne(0).any(1).all())


def test_a_decoder_without_pictures_is_reported(tmp_path: Path) -> None:
    save_torchscript(TinyDecoder(7), tmp_path / "model.pt")
    with pytest.raises(ContractError, match="no method `pictures`"):
        pictures_of(load_torchscript(tmp_path / "model.pt"))
