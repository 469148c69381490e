"""What is loaded again, and what is not, into a Triton that answers from memory."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service.inference.local.model_loader import ModelLoader
from service.inference.models import Models

HALVES = ["pca_decoder", "pca_encoder"]


class Triton:
    """Keeps a list of what it was asked to load; `loads` is told each time."""

    def __init__(self) -> None:
        self.ready: set[str] = set()
        self.loads: asyncio.Queue[str] = asyncio.Queue()
        self.broken: set[str] = set()
        self.looks: asyncio.Queue[None] = asyncio.Queue()
        self.answers = True

    async def load_model(self, name: str, client_timeout: float) -> None:
        if name in self.broken:
            self.loads.put_nowait(f"{name} in vain")
            raise InferenceServerException("broken", status="StatusCode.INVALID_ARGUMENT")
        self.ready.add(name)
        self.loads.put_nowait(name)

    async def get_model_repository_index(self, client_timeout: float) -> SimpleNamespace:
        self.looks.put_nowait(None)
        if not self.answers:
            raise InferenceServerException("away", status="StatusCode.UNAVAILABLE")
        return SimpleNamespace(
            models=[
                SimpleNamespace(name=name, state="READY" if name in self.ready else "UNAVAILABLE")
                for name in HALVES
            ]
        )

    async def loaded(self, count: int) -> list[str]:
        return [await asyncio.wait_for(self.loads.get(), 30) for _ in range(count)]

    async def looked(self, times: int) -> None:
        """Wait until it was asked for what is loaded, so many times more."""
        times += self.looks.qsize()
        for _ in range(times):
            await asyncio.wait_for(self.looks.get(), 30)


class Running:
    """A loader at work on a repository with one model, without a pause between its looks."""

    def __init__(self, repository: Path, triton: Triton) -> None:
        for half in HALVES:
            (repository / half / "1").mkdir(parents=True)
            (repository / half / "config.pbtxt").touch()
        client = cast("InferenceServerClient", triton)
        self._loader = ModelLoader(client, Models(client), [repository])

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._loader.keep_loaded(0))

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def test_a_half_that_was_unloaded_is_loaded_again(tmp_path: Path) -> None:
    triton = Triton()
    async with Running(tmp_path, triton):
        assert await triton.loaded(2) == HALVES
        for half in HALVES:
            triton.ready.remove(half)
            assert await triton.loaded(2) == HALVES
        await triton.looked(3)
        assert triton.loads.empty(), "what is loaded stays as it is"


async def test_one_that_cannot_be_loaded_is_not_tried_at_every_poll(tmp_path: Path) -> None:
    triton = Triton()
    triton.broken.add("pca_encoder")
    async with Running(tmp_path, triton):
        assert await triton.loaded(2) == ["pca_decoder", "pca_encoder in vain"]
        await triton.looked(3)
        assert triton.loads.empty()


async def test_of_a_triton_that_does_not_answer_nothing_is_concluded(tmp_path: Path) -> None:
    triton = Triton()
    async with Running(tmp_path, triton):
        await triton.loaded(2)
        triton.answers = False
        triton.ready.clear()
        await triton.looked(3)
        assert triton.loads.empty()
        triton.answers = True
        assert await triton.loaded(2) == HALVES
