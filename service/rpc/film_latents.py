"""Which stored latents a request means, and reading them only while their film exists."""

import re
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TypeVar

import grpc
from refilm.v1 import autoencoder_pb2 as pb

from service.errors import ClientSideError, InvalidFieldError, Resource
from service.inference import Models, ModelVersion
from service.rpc import convert
from service.rpc.call import current_call
from service.rpc.names import parse_film_name
from service.storage.exact import DamagedError, film_deleted
from service.storage.films import Film, Films
from service.storage.latents import Latents, LatentsManifest
from service.storage.threads import StorageThreads

_LOOK_SECONDS = 1.0
"""How often a stream makes sure that its film was not deleted."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Item = TypeVar("Item")


class NoLatentsError(ClientSideError):
    """The film has no latents, or none of the model asked for."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "LATENTS_MISSING"


class FilmLatents:
    """Finds films and their latents for requests."""

    def __init__(
        self, models: Models, films: Films, latents: Latents, threads: StorageThreads
    ) -> None:
        self._models = models
        self._films = films
        self._latents = latents
        self._threads = threads

    async def film(self, name: str, field: str = "film") -> Film:
        """Return the film of a name; raises InvalidFieldError or NotFoundError."""
        return await self._threads.run(self._films.get, parse_film_name(name, field))

    async def chosen(self, film: Film, selector: pb.ModelSelector) -> LatentsManifest:
        """Return the film's latents that a selector means; the call's log names their model.

        A digest is taken as it is: latents can be read when their model is gone. Without any
        selector these are the only ones that the film has, or those of the default model.
        Raises NoLatentsError, InvalidFieldError or as `Models.resolve`.
        """
        stored = await self.all_of(film)
        if selector.digest:
            digest = digest_of(selector.digest, "model.digest")
        elif selector.name or selector.version or len(stored) != 1:
            digest = convert.resolve(self._models, selector).digest
        else:
            digest = stored[0].model.digest
        manifest = _with_digest(film, stored, digest)
        model = manifest.model
        current_call().model = ModelVersion(
            model.name, model.version, model.digest, model.recipe, {}
        )
        return manifest

    async def of_digest(self, film: Film, digest: str) -> LatentsManifest:
        """Return the film's latents of a model; raises NoLatentsError."""
        return _with_digest(film, await self.all_of(film), digest)

    async def all_of(self, film: Film) -> list[LatentsManifest]:
        """Return the film's latents of all models, by digest; raises NoLatentsError if none."""
        found = await self._threads.run(lambda: list(self._latents.list(film.id)))
        stored = [manifest for manifest in found if manifest.film_uid == film.uid]
        if not stored:
            name = f"films/{film.id}"
            raise NoLatentsError(
                f"{name} has no latents yet: reconstruct it in the library "
                "(LibraryService.StartReconstruction, or ReconstructVideo with its name)",
                resource=Resource("film", name),
                metadata={"film": name},
            )
        return stored

    async def require(self, film: Film) -> None:
        """Raise NotFoundError unless the film still exists."""
        if not await self._threads.run(self._films.exists, film.id, film.uid):
            raise film_deleted(film.id)

    async def watched(self, film: Film, items: Iterator[Item]) -> AsyncGenerator[Item, None]:
        """Yield what is read of a film, pulled on storage's threads.

        Makes sure that the film exists right before the first item, and again and again while they
        last. Close it (`aclosing`) where it is not exhausted. Raises NotFoundError or DamagedError.
        """
        watch = Watch(self, [film])
        try:
            async with aclosing(self._threads.iterate(items)) as stream:
                async for item in stream:
                    await watch.look()
                    yield item
        except DamagedError:
            # What is missing may be so because the film was deleted.
            await self.require(film)
            raise


class Watch:
    """Makes sure, about once a second, that the films of a stream exist."""

    def __init__(self, film_latents: FilmLatents, films: list[Film]) -> None:
        self._film_latents = film_latents
        self._films = films
        self._looked: float | None = None

    async def look(self) -> None:
        """Raise NotFoundError if one is seen to be gone; looks no more than once a second."""
        now = time.monotonic()
        if self._looked is None or now - self._looked >= _LOOK_SECONDS:
            for film in self._films:
                await self._film_latents.require(film)
            self._looked = now


def digest_of(value: str, field: str) -> str:
    """Return a request's digest; raises InvalidFieldError where it cannot be one."""
    if not _DIGEST.fullmatch(value):
        raise InvalidFieldError(
            field,
            'is no digest; expected "sha256:" and 64 hexadecimal digits in lower case',
            reason="INVALID_DIGEST",
        )
    return value


def _with_digest(film: Film, stored: list[LatentsManifest], digest: str) -> LatentsManifest:
    for manifest in stored:
        if manifest.model.digest == digest:
            return manifest
    name = f"films/{film.id}"
    there = [manifest.model for manifest in stored]
    described = ", ".join(f"{model.digest} ({model.name}/{model.version})" for model in there)
    raise NoLatentsError(
        f"{name} has no latents of the model {digest}; it has those of {described}: ask for these, "
        "or reconstruct the film with that model",
        reason="LATENTS_OF_OTHER_MODEL",
        resource=Resource("film", name),
        metadata={
            "film": name,
            "requested_digest": digest,
            "stored_digests": ",".join(model.digest for model in there),
        },
    )
