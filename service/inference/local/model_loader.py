"""Loads the models of the repositories into the local Triton, and keeps them loaded.

With explicit model control, Triton reads a repository only on request. The folders here only decide
when to load; the registry gets the ready versions from Triton.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc
import structlog
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service.inference.connection import status_of
from service.inference.models import DECODER_SUFFIX, ENCODER_SUFFIX, Models

log = structlog.get_logger(__name__)

_TIMEOUT_SECONDS = 10.0
_LOAD_SECONDS = 120.0
_LOADS_AT_ONCE = 2
_RETRY_SECONDS = 60.0

Listing = tuple[tuple[str, ...], ...]
"""The content of a model's two folders: versions, and the configurations' modification times."""


class ModelLoader:
    """Keeps the models of the repositories loaded."""

    def __init__(
        self, triton: InferenceServerClient, models: Models, repositories: Sequence[Path]
    ) -> None:
        self._triton = triton
        self._models = models
        self._repositories = repositories
        self._loaded: dict[str, Listing] = {}
        self._failed: dict[str, tuple[Listing, float]] = {}

    def forget(self) -> None:
        """Reset after a restart of Triton, which has nothing loaded."""
        self._loaded.clear()
        self._failed.clear()

    async def keep_loaded(self, every_seconds: float) -> None:
        """Load new models periodically; returns only when cancelled."""
        before: dict[str, Listing] = await asyncio.to_thread(self._list_folders)
        while True:
            now = await asyncio.to_thread(self._list_folders)
            # Wait until a folder stops changing: a publication moves two folders and writes two
            # files, and loading in between would load twice.
            settled = {
                name: listing for name, listing in now.items() if before.get(name) == listing
            }
            before = now
            await self._forget_unloaded()
            await self._load_changed(settled)
            await asyncio.sleep(every_seconds)

    async def _forget_unloaded(self) -> None:
        """Forget models that Triton no longer has loaded: another client may have unloaded one."""
        if not self._loaded:
            return
        try:
            index = await self._triton.get_model_repository_index(client_timeout=_TIMEOUT_SECONDS)
        except InferenceServerException:
            # Without a response nothing is known.
            return
        ready = {entry.name for entry in index.models if entry.state == "READY"}
        for name in self._loaded.keys() - self._failed.keys():
            if not {name + DECODER_SUFFIX, name + ENCODER_SUFFIX} <= ready:
                log.warning("model was unloaded, loading it again", model=name)
                del self._loaded[name]

    async def _load_changed(self, listings: dict[str, Listing]) -> None:
        limit = asyncio.Semaphore(_LOADS_AT_ONCE)
        clock = asyncio.get_running_loop().time()

        async def load(name: str, listing: Listing) -> None:
            async with limit:
                self._loaded[name] = listing
                self._failed.pop(name, None)
                try:
                    await self._load_pair(name)
                except InferenceServerException as error:
                    if status_of(error) is grpc.StatusCode.UNAVAILABLE:
                        # Triton is gone, so the model is not at fault: retry when it is back.
                        self._loaded.pop(name, None)
                    else:
                        self._failed[name] = (listing, clock + _RETRY_SECONDS)
                self._models.poll_soon()

        def due(name: str, listing: Listing) -> bool:
            failed = self._failed.get(name)
            if failed is not None and failed[0] == listing:
                return clock >= failed[1]
            return self._loaded.get(name) != listing

        await asyncio.gather(
            *(load(name, listing) for name, listing in listings.items() if due(name, listing))
        )

    async def _load_pair(self, name: str) -> None:
        # Decoder first: a version is ready once both are, and the encoder has its card.
        for model in (name + DECODER_SUFFIX, name + ENCODER_SUFFIX):
            try:
                await self._triton.load_model(model, client_timeout=_LOAD_SECONDS)
            except InferenceServerException as error:
                log.error("model cannot be loaded", model=model, error=error.message())
                raise
            log.info("model loaded", model=model)

    def _list_folders(self) -> dict[str, Listing]:
        found: dict[str, Listing] = {}
        for repository in self._repositories:
            for folder in sorted(repository.glob(f"*{ENCODER_SUFFIX}")):
                name = folder.name.removesuffix(ENCODER_SUFFIX)
                decoder = repository / (name + DECODER_SUFFIX)
                listing = tuple(_listing(half) for half in (decoder, folder))
                if name not in found and all(listing):
                    found[name] = listing
        return found


def _listing(folder: Path) -> tuple[str, ...]:
    """Return the versions and the configuration's modification time; empty if one is missing."""
    try:
        versions = sorted(entry.name for entry in folder.iterdir() if entry.name.isdecimal())
        changed = (folder / "config.pbtxt").stat().st_mtime_ns
    except OSError:
        return ()
    return (*versions, f"config.pbtxt@{changed}") if versions else ()
