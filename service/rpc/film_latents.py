"""Resolves requests to stored latents, and reads them only while their film exists."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import grpc
from refilm.v1 import autoencoder_pb2 as pb

from service.errors import ClientSideError, InvalidFieldError, Resource
from service.inference import Models, ModelVersion
from service.library.films import Film
from service.library.latents import LatentsManifest
from service.library.library import Library
from service.library.verified_reads import DamagedError
from service.rpc import messages
from service.rpc.call import current_call
from service.rpc.film_watch import FilmWatch
from service.rpc.names import parse_film_name

MAX_FILMS = 1000
"""Maximum number of films that a request can name."""

Result = TypeVar("Result")


class NoLatentsError(ClientSideError):
    """The film has no latents, or none for the requested model."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "LATENTS_MISSING"


class FilmLatents:
    """Finds films and their latents for requests."""

    def __init__(self, models: Models, library: Library) -> None:
        self._models = models
        self._films = library.films
        self._latents = library.latents
        self._threads = library.threads
        self.watch = FilmWatch(library.films, library.threads)

    async def film(self, name: str, field: str = "film") -> Film:
        """Return the film with a resource name; raises InvalidFieldError or NotFoundError."""
        return await self._threads.run(self._films.get, parse_film_name(name, field))

    async def films(self, names: Sequence[str], field: str) -> frozenset[str] | None:
        """Return the ids of the films that a request names in `field`; None if it names none.

        Raises InvalidFieldError, or NotFoundError for a film that does not exist.
        """
        if len(names) > MAX_FILMS:
            raise InvalidFieldError(
                field, f"are {len(names)}; at most {MAX_FILMS}", reason="TOO_MANY_FILMS"
            )
        ids = {parse_film_name(name, f"{field}[{place}]") for place, name in enumerate(names)}
        await asyncio.gather(*(self._threads.run(self._films.get, film) for film in ids))
        return frozenset(ids) or None

    async def chosen(self, film: Film, selector: pb.ModelSelector) -> LatentsManifest:
        """Resolve a selector to the film's latents, and log their model.

        A digest is not resolved by the registry: latents can be read without their model. Without
        a selector: the film's only latents, or those of the default model.
        Raises NoLatentsError, InvalidFieldError or as `Models.resolve`.
        """
        if selector.digest:
            digest = messages.digest_of(selector.digest, "model.digest")
            manifest = await self.of_digest(film, digest)
        elif selector.name:
            digest = messages.resolve(self._models, selector).digest
            manifest = await self.of_digest(film, digest)
        else:
            stored = await self.all_of(film)
            if len(stored) == 1:
                manifest = stored[0]
            else:
                manifest = await self.of_digest(film, self._models.resolve().digest)
        model = manifest.model
        current_call().model = ModelVersion(
            model.name, model.version, model.digest, model.recipe, {}
        )
        return manifest

    async def of_digest(self, film: Film, digest: str) -> LatentsManifest:
        """Return the film's latents for a model; raises NoLatentsError."""
        manifest = await self._threads.run(self._latents.find, film.id, digest)
        if manifest is None or manifest.film_uid != film.uid:
            raise _of_other_models(film, await self.all_of(film), digest)
        return manifest

    async def all_of(self, film: Film) -> list[LatentsManifest]:
        """Return the film's latents for all models, by digest; raises NoLatentsError if none."""
        found = await self._threads.run(lambda: list(self._latents.list(film.id)))
        stored = [manifest for manifest in found if manifest.film_uid == film.uid]
        if not stored:
            await self.watch.require(film)
            name = f"films/{film.id}"
            raise NoLatentsError(
                f"{name} has no latents yet: reconstruct it in the library first",
                resource=Resource("film", name),
                metadata={"film": name},
            )
        return stored

    async def read(self, film: Film, call: Callable[[], Result]) -> Result:
        """Return the result of `call`, which reads from a film, on a storage thread.

        Raises the errors of `call`, and NotFoundError if the film was deleted meanwhile.
        """
        try:
            return await self._threads.run(call)
        except DamagedError:
            # Objects may be missing because the film was deleted.
            await self.watch.require(film)
            raise


def _of_other_models(film: Film, stored: list[LatentsManifest], digest: str) -> NoLatentsError:
    name = f"films/{film.id}"
    there = [manifest.model for manifest in stored]
    described = ", ".join(f"{model.digest} ({model.name}/{model.version})" for model in there)
    return NoLatentsError(
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
