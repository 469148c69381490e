"""The registry of models: which version a selector means, as Triton's own come and go."""

import asyncio
import json
from typing import Any, cast

import pytest
from tritonclient.grpc import service_pb2
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from service.errors import (
    DigestMismatchError,
    InvalidFieldError,
    NotFoundError,
    UnavailableError,
)
from service.inference.models import Models

FRAME, LATENT = [144, 256, 3], [200]


class FakeTriton:
    """Answers as Triton does, of what a test published."""

    def __init__(self) -> None:
        self.ready: dict[str, dict[int, str]] = {}
        """Digests by number, of each half."""
        self.cards: dict[int, str] = {}
        self.is_gone = False

    def publish(self, name: str, number: int, digest: str) -> None:
        for half in ("encoder", "decoder"):
            self.ready.setdefault(f"{name}_{half}", {})[number] = digest

    async def get_model_repository_index(self, client_timeout: float) -> Any:
        if self.is_gone:
            raise InferenceServerException("gone", status="StatusCode.UNAVAILABLE")
        index = service_pb2.RepositoryIndexResponse()
        for name, versions in self.ready.items():
            for number in versions:
                index.models.add(name=name, version=str(number), state="READY")
            index.models.add(name=name, version="99", state="UNAVAILABLE")
        return index

    async def get_model_config(self, model: str, client_timeout: float) -> Any:
        config = ModelConfig()
        is_encoder = model.endswith("_encoder")
        config.input.add(dims=FRAME if is_encoder else LATENT)
        for dims in [LATENT, LATENT] if is_encoder else [FRAME, LATENT]:
            config.output.add(dims=dims)
        for number, digest in self.ready[model].items():
            config.parameters[f"refilm.digest.{number}"].string_value = digest
            card = self.cards.get(number, json.dumps({"recipe": "pca"}))
            config.parameters[f"refilm.card.{number}"].string_value = card
        return service_pb2.ModelConfigResponse(config=config)


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton()


async def registry(triton: FakeTriton, default: str = "") -> Models:
    models = Models(cast(InferenceServerClient, triton), default_model=default)
    await models.refresh()
    return models


async def test_a_version_is_ready_when_both_halves_of_it_are(triton: FakeTriton) -> None:
    triton.publish("pca", 1, "one")
    triton.publish("pca", 2, "two")
    triton.ready["pca_encoder"][3] = "three"
    triton.ready["alone_decoder"] = {1: "x"}
    (model,) = (await registry(triton)).list()
    assert [version.version for version in model.versions] == [1, 2]
    assert (model.name, model.latest.digest, model.is_default) == ("pca", "two", True)


async def test_halves_of_two_trainings_are_no_version(triton: FakeTriton) -> None:
    triton.publish("pca", 1, "one")
    triton.ready["pca_decoder"][1] = "other"
    assert not (await registry(triton)).ready


@pytest.mark.parametrize("card", ["[]", "no JSON", '{"recipe": 7}'])
async def test_a_card_that_says_nothing_hides_no_version(triton: FakeTriton, card: str) -> None:
    triton.publish("pca", 1, "one")
    triton.cards[1] = card
    assert (await registry(triton)).resolve().recipe == ""


async def test_a_selector_means_one_version(triton: FakeTriton) -> None:
    for number, digest in ((1, "one"), (2, "two"), (3, "one")):
        triton.publish("pca", number, digest)
    triton.publish("zebra", 9, "nine")
    models = await registry(triton, default="pca")

    def meant(*selector: Any) -> tuple[str, int]:
        version = models.resolve(*selector)
        return version.name, version.version

    assert meant() == ("pca", 3)
    assert meant("zebra") == ("zebra", 9)
    assert meant("", 2) == ("pca", 2)
    assert meant("pca", 0, "two") == ("pca", 2)
    assert meant("", 0, "one") == ("pca", 3)  # The newest of the same files.
    assert meant("pca", 1, "one") == ("pca", 1)
    assert meant("", 0, "nine") == ("zebra", 9)


async def test_what_is_not_there_is_said_by_its_kind(triton: FakeTriton) -> None:
    models = await registry(triton)
    with pytest.raises(UnavailableError) as nothing:
        models.resolve()
    assert nothing.value.reason == "NO_MODEL_READY"
    triton.publish("pca", 1, "one")
    triton.publish("zebra", 1, "nine")
    await models.refresh()
    for selector, error, reason in (
        (("horse",), NotFoundError, "MODEL_NOT_FOUND"),
        (("pca", 7), NotFoundError, "MODEL_VERSION_NOT_FOUND"),
        (("", 0, "none"), NotFoundError, "MODEL_DIGEST_NOT_FOUND"),
        (("pca", 1, "nine"), DigestMismatchError, None),
        ((), InvalidFieldError, "MODEL_REQUIRED"),
    ):
        with pytest.raises(error) as told:
            models.resolve(*cast(tuple[Any, ...], selector))
        assert reason is None or told.value.reason == reason


async def test_what_was_ready_before_triton_was_lost_is_awaited(triton: FakeTriton) -> None:
    triton.publish("pca", 1, "one")
    triton.publish("zebra", 1, "nine")
    models = await registry(triton)
    told: list[tuple[bool, bool]] = []
    models.subscribe(lambda: told.append((models.reachable, models.ready)))
    triton.is_gone = True
    await models.refresh()
    await models.refresh()
    assert told == [(False, False)]
    triton.is_gone = False
    pca = {half: triton.ready.pop(f"pca_{half}") for half in ("encoder", "decoder")}
    await models.refresh()
    with pytest.raises(UnavailableError) as loading:
        models.resolve("pca")
    assert loading.value.reason == "MODEL_NOT_READY"
    with pytest.raises(NotFoundError):
        models.resolve("pca", 5)
    assert models.resolve("zebra").version == 1
    triton.ready |= {f"pca_{half}": versions for half, versions in pca.items()}
    await models.refresh()
    assert models.resolve("pca").version == 1
    assert told == [(False, False), (True, True), (True, True)]


async def test_it_is_polled_at_once_when_asked(triton: FakeTriton) -> None:
    models = await registry(triton)
    seen = asyncio.Event()
    models.subscribe(seen.set)
    polling = asyncio.create_task(models.poll(3600))
    triton.publish("pca", 1, "one")
    models.poll_soon()
    await asyncio.wait_for(seen.wait(), 60)
    assert models.resolve().version == 1
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
