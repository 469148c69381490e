"""Published models in a real Triton: the stand-in for libtorch, and loading over gRPC."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc_triton
from tritonclient.utils import InferenceServerException

from service.inference.local import wheel
from tests.support.models import TinyDecoder, TinyEncoder
from tests.trainer.fidelity_films import SIZE, film, memory
from trainer.errors import PublishError
from trainer.export import load_torchscript
from trainer.publish import publish
from trainer.recipes.fidelity.recipe import Fidelity
from trainer.triton_load import load


@dataclass
class Triton:
    repository: Path
    address: str
    client: grpc_triton.InferenceServerClient

    def publish(self, seed: int, name: str) -> int:
        return publish(
            TinyEncoder(seed),
            TinyDecoder(seed),
            name=name,
            card={"recipe": "tiny", "films": [], "frames": 0},
            repository=self.repository,
        )

    def ask(
        self, model: str, array: np.ndarray, version: int, outputs: tuple[str, ...]
    ) -> list[np.ndarray]:
        kind = "UINT8" if array.dtype == np.uint8 else "FP32"
        given = grpc_triton.InferInput("INPUT__0", list(array.shape), kind)
        given.set_data_from_numpy(array)
        wanted = [grpc_triton.InferRequestedOutput(name) for name in outputs]
        answer = self.client.infer(model, [given], model_version=str(version), outputs=wanted)
        return [answer.as_numpy(name) for name in outputs]

    def encode(self, name: str, frames: np.ndarray, version: int) -> list[np.ndarray]:
        return self.ask(f"{name}_encoder", frames, version, ("OUTPUT__0", "OUTPUT__1"))

    def module(self, name: str, version: int) -> torch.jit.ScriptModule:
        return load_torchscript(self.repository / f"{name}/{version}/model.pt")


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    folder, repository = tmp_path_factory.mktemp("triton"), tmp_path_factory.mktemp("models")
    found = wheel.find_wheel()
    wheel.assemble_backends(found, folder)
    prefix = f"trainer_{os.getpid()}_"
    command = wheel.command(found, folder, [repository], prefix)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=wheel.environment(found), stdout=log, stderr=log)
    address = wheel.address(folder)
    client = grpc_triton.InferenceServerClient(address)
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
        yield Triton(repository, address, client)
    finally:
        client.close()
        # Nothing of it is needed any more, so it need not take its seconds to end in order.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for left in Path("/dev/shm").glob(f"{prefix}*"):
            left.unlink()


def frames(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 144, 256, 3), dtype=np.uint8)


@pytest.fixture
def as_many_threads() -> Iterator[None]:
    """As many threads as the backend has: another number sums in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("as_many_threads")
def test_what_is_published_is_loaded_and_answers_as_the_module_does(triton: Triton) -> None:
    for seed in (1, 2):
        load(triton.address, "film", triton.publish(seed, "film"))
    for version in (1, 2):
        given = frames(8, version)
        latents, embeddings = triton.encode("film", given, version)
        expected = triton.module("film_encoder", version)(torch.from_numpy(given))
        assert np.array_equal(latents, expected[0].numpy())
        assert np.array_equal(embeddings, expected[1].numpy())
        outputs = ("OUTPUT__0", "OUTPUT__1")
        decoded, again = triton.ask("film_decoder", latents, version, outputs)
        expected = triton.module("film_decoder", version)(torch.tensor(latents))
        assert np.array_equal(decoded, expected[0].numpy())
        assert np.array_equal(again, embeddings)


@pytest.mark.usefixtures("as_many_threads")
def test_fidelity_is_served_as_it_was_trained(triton: Triton) -> None:
    torch.manual_seed(0)
    learner = Fidelity(memory(), SIZE)
    given = film().everything()[5::40]
    learner.step(given)
    encoder, decoder = learner.served(given)
    card = {"recipe": "fidelity", "films": [], "frames": len(given)}
    publish(encoder, decoder, name="scenes", card=card, repository=triton.repository)
    load(triton.address, "scenes", 1)
    latents, embeddings = triton.encode("scenes", given.numpy(), 1)
    outputs = ("OUTPUT__0", "OUTPUT__1")
    pictures, again = triton.ask("scenes_decoder", latents, 1, outputs)
    with torch.inference_mode():
        expected = encoder(given)
    np.testing.assert_allclose(latents, expected[0].numpy(), atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(embeddings, expected[1].numpy(), atol=1e-3)
    np.testing.assert_allclose(again, embeddings, atol=1e-5)
    difference = torch.tensor(pictures).int() - learner.reconstruct(given).int()
    assert difference.abs().max() <= 1


def test_only_the_outputs_asked_for_come_back(triton: Triton) -> None:
    load(triton.address, "part", triton.publish(1, "part"))
    given = frames(2)
    whole = triton.encode("part", given, 1)
    (embeddings,) = triton.ask("part_encoder", given, 1, ("OUTPUT__1",))
    assert np.array_equal(embeddings, whole[1])


def test_requests_that_share_a_batch_get_each_their_own(triton: Triton) -> None:
    load(triton.address, "crowd", triton.publish(3, "crowd"))
    module = triton.module("crowd_encoder", 1)
    given = [frames(1 + number % 4, number) for number in range(24)]
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda each: triton.encode("crowd", each, 1), given))
    for each, (latents, embeddings) in zip(given, answers, strict=True):
        expected = module(torch.from_numpy(each))
        scale = float(expected[0].abs().max())
        assert np.abs(latents - expected[0].numpy()).max() <= 1e-4 * scale
        assert np.abs(embeddings - expected[1].numpy()).max() <= 1e-4
    statistics = triton.client.get_inference_statistics("crowd_encoder", "1").model_stats[0]
    assert statistics.execution_count < 24, "no two requests were run together"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_bad_request_does_not_spoil_its_batch(triton: Triton) -> None:
    load(triton.address, "mixed", triton.publish(4, "mixed"))
    # A module that fails on one kind of content: only that request gets the error.
    path = triton.repository / "mixed_encoder" / "1" / "model.pt"

    class Picky(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = TinyEncoder(4)

        def forward(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if bool((given == 7).all(dim=3).all(dim=2).all(dim=1).any()):
                raise ValueError("sevens only")
            latents, embeddings = self.inner(given)
            return latents, embeddings

    torch.jit.save(torch.jit.script(Picky()), str(path))
    triton.client.load_model("mixed_encoder")
    bad = np.full((1, 144, 256, 3), 7, np.uint8)

    def ask(given: np.ndarray) -> str:
        try:
            latents, _ = triton.encode("mixed", given, 1)
        except InferenceServerException as error:
            assert "sevens only" in error.message()
            return "error"
        return "answer" if np.isfinite(latents).all() else "nonsense"

    given = [bad if number % 5 == 0 else frames(1, number) for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, given))
    assert answers == ["error" if number % 5 == 0 else "answer" for number in range(20)]


def test_a_load_that_fails_is_reported_and_what_served_goes_on(triton: Triton) -> None:
    load(triton.address, "steady", triton.publish(5, "steady"))
    version = triton.publish(6, "steady")
    broken = triton.repository / "steady_encoder" / str(version) / "model.pt"
    broken.write_bytes(b"not a model")
    with pytest.raises(PublishError, match="does not load it"):
        load(triton.address, "steady", version)
    assert triton.encode("steady", frames(1), 1)[0].shape == (1, 200)


def test_a_triton_that_reads_another_repository_is_reported(triton: Triton) -> None:
    with pytest.raises(PublishError, match="does not load it"):
        load(triton.address, "elsewhere", 1)
    load(triton.address, "known", triton.publish(7, "known"))
    with pytest.raises(PublishError, match="without version 2"):
        load(triton.address, "known", 2)


@pytest.mark.process
def test_no_triton_at_the_address_is_reported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PublishError, match=f"No Triton answers at {address}"):
            load(address, "film", 1)
