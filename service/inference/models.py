"""The registry of ready model versions, polled from Triton's API every few seconds."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from service.errors import (
    DigestMismatchError,
    InvalidFieldError,
    NotFoundError,
    Resource,
    UnavailableError,
)
from service.inference.connection import RETRY_AFTER_SECONDS
from service.inference.model_shape import SERVED, ModelShape, model_shape

log = structlog.get_logger(__name__)

ENCODER_SUFFIX = "_encoder"
DECODER_SUFFIX = "_decoder"
_POLL_TIMEOUT_SECONDS = 10.0
_RECOVERY_SECONDS = 120.0
"""How long after Triton is lost earlier versions are "unavailable" instead of "not found"."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a model whose encoder and decoder are ready."""

    name: str
    version: int
    digest: str
    """"sha256:" and 64 hexadecimal digits over both TorchScript files."""
    recipe: str
    card: Mapping[str, object] = field(compare=False)
    """The model card, as published."""
    shape: ModelShape = SERVED


@dataclass(frozen=True, slots=True)
class Model:
    """A published encoder and decoder pair, by name."""

    name: str
    versions: tuple[ModelVersion, ...]
    """The versions that are ready, by number; never empty."""
    is_default: bool

    @property
    def latest(self) -> ModelVersion:
        """The newest version that is ready."""
        return self.versions[-1]


class Models:
    """The registry of the models ready in Triton. For one event loop."""

    def __init__(self, triton: InferenceServerClient, *, default_model: str = "") -> None:
        self._triton = triton
        self._default_model = default_model
        self._versions: dict[str, tuple[ModelVersion, ...]] = {}
        self._reachable = False
        self._expected: set[tuple[str, int]] = set()
        self._awaited_until = 0.0
        self._listeners: list[Callable[[], None]] = []
        self._unfit: set[str] = set()
        self._wake = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether any model is ready."""
        return bool(self._versions)

    @property
    def reachable(self) -> bool:
        """Whether Triton responded to the last poll."""
        return self._reachable

    def list(self) -> tuple[Model, ...]:
        """Return the ready models, by name."""
        return tuple(self._model(name) for name in sorted(self._versions))

    def get(self, name: str) -> Model:
        """Return one model; raises NotFoundError with the names of the ready ones."""
        if name not in self._versions:
            raise self._unknown(name)
        return self._model(name)

    def resolve(
        self, name: str = "", version: int = 0, digest: str = "", *, field: str = "model"
    ) -> ModelVersion:
        """Resolve a selector to a version; call it once per call or stream.

        `field` is the selector's path in the request, for the error.

        Raises NotFoundError (no such model, version or digest), DigestMismatchError (the version
        has another digest), InvalidFieldError (several models and none named) or
        UnavailableError (nothing is ready).
        """
        if not self._versions:
            raise UnavailableError(
                "no model is ready now; try again",
                reason="NO_MODEL_READY",
                retry_after=RETRY_AFTER_SECONDS,
            )
        if digest and not name and not version:
            return self._by_digest(digest)
        name = name or self._default(field)
        if self._is_expected(name, version):
            raise UnavailableError(
                f'model "{name}" is being loaded again; try again',
                reason="MODEL_NOT_READY",
                retry_after=RETRY_AFTER_SECONDS,
            )
        model = self.get(name)
        chosen = self._by_number(model, version) if version else model.latest
        if digest and digest != chosen.digest:
            if not version:
                for candidate in model.versions:
                    if candidate.digest == digest:
                        return candidate
            raise DigestMismatchError(
                f'model "{chosen.name}" version {chosen.version} has the digest {chosen.digest}, '
                f"the request asks for {digest}",
                resource=Resource("model", f"models/{chosen.name}/versions/{chosen.version}"),
                metadata={"actual_digest": chosen.digest, "requested_digest": digest},
            )
        return chosen

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change of `ready`, `reachable` or the versions."""
        self._listeners.append(listener)

    def poll_soon(self) -> None:
        """Poll at once: the registry may be out of date."""
        self._wake.set()

    async def poll(self, every_seconds: float) -> None:
        """Poll Triton periodically; returns only when cancelled."""
        while True:
            await self.refresh()
            try:
                # Not wait_for: in Python 3.11 it loses a cancellation that comes with the wake-up.
                async with asyncio.timeout(every_seconds):
                    await self._wake.wait()
                self._wake.clear()
                # At most ten polls per second, however often calls fail.
                await asyncio.sleep(0.1)
            except TimeoutError:
                pass

    async def refresh(self) -> None:
        """Poll Triton once. Never raises: an unreachable Triton has nothing ready."""
        try:
            versions = await self._ask()
        except InferenceServerException as error:
            if self._reachable:
                log.warning("triton cannot be reached", error=error.message())
            self._update({}, reachable=False)
        else:
            self._update(versions, reachable=True)

    def mark_unreachable(self) -> None:
        """Mark Triton as unreachable without waiting for the next poll."""
        self._update({}, reachable=False)

    def _update(self, versions: dict[str, tuple[ModelVersion, ...]], *, reachable: bool) -> None:
        if versions == self._versions and reachable == self._reachable:
            return
        for version in _all(versions) - _all(self._versions):
            log.info(
                "model version ready",
                model=version.name,
                version=version.version,
                digest=version.digest,
            )
        if not reachable:
            self._expected |= {(v.name, v.version) for v in _all(self._versions)}
            self._awaited_until = time.monotonic() + _RECOVERY_SECONDS
        for version in _all(self._versions) - _all(versions):
            log.info("model version gone", model=version.name, version=version.version)
        self._versions = versions
        self._reachable = reachable
        for listener in self._listeners:
            listener()

    async def _ask(self) -> dict[str, tuple[ModelVersion, ...]]:
        index = await self._triton.get_model_repository_index(client_timeout=_POLL_TIMEOUT_SECONDS)
        ready: dict[str, set[int]] = {}
        for entry in index.models:
            if entry.state == "READY" and entry.version.isdecimal():
                ready.setdefault(entry.name, set()).add(int(entry.version))
        found: dict[str, tuple[ModelVersion, ...]] = {}
        for encoder, encoder_versions in ready.items():
            if not encoder.endswith(ENCODER_SUFFIX):
                continue
            name = encoder.removesuffix(ENCODER_SUFFIX)
            both = encoder_versions & ready.get(name + DECODER_SUFFIX, set())
            if not both:
                continue
            versions = await self._describe(name, both)
            if versions:
                found[name] = versions
        return found

    async def _describe(self, name: str, numbers: set[int]) -> tuple[ModelVersion, ...]:
        try:
            encoder_config = await self._config(name + ENCODER_SUFFIX)
            decoder_config = await self._config(name + DECODER_SUFFIX)
        except InferenceServerException as error:
            if error.status() == "StatusCode.UNAVAILABLE":
                raise
            # Unloaded between the two requests; the next poll updates it.
            return ()
        shape = model_shape(encoder_config, decoder_config)
        if shape != SERVED:
            if name not in self._unfit:
                log.error("model cannot be served", model=name, shape=shape, served=SERVED)
            self._unfit.add(name)
            return ()
        self._unfit.discard(name)
        encoder, decoder = _parameters(encoder_config), _parameters(decoder_config)
        versions = []
        for number in sorted(numbers):
            digest = encoder.get(f"refilm.digest.{number}", "")
            if not digest or digest != decoder.get(f"refilm.digest.{number}"):
                continue
            card = _card(encoder.get(f"refilm.card.{number}", "{}"))
            recipe = card.get("recipe")
            versions.append(
                ModelVersion(
                    name, number, digest, recipe if isinstance(recipe, str) else "", card, shape
                )
            )
        return tuple(versions)

    async def _config(self, model: str) -> ModelConfig:
        response = await self._triton.get_model_config(model, client_timeout=_POLL_TIMEOUT_SECONDS)
        config: ModelConfig = response.config
        return config

    def _default(self, field: str) -> str:
        if self._default_model:
            return self._default_model
        if len(self._versions) == 1:
            return next(iter(self._versions))
        raise InvalidFieldError(
            f"{field}.name",
            f"several models are ready and none is the default; name one of {self._names()}",
            reason="MODEL_REQUIRED",
        )

    def _is_expected(self, name: str, version: int) -> bool:
        ready = {v.version for v in self._versions.get(name, ())}
        if (version in ready) if version else ready:
            return False
        awaited = {number for other, number in self._expected if other == name}
        return time.monotonic() < self._awaited_until and (
            version in awaited if version else bool(awaited)
        )

    def _is_default(self, name: str) -> bool:
        return name == self._default_model or (not self._default_model and len(self._versions) == 1)

    def _model(self, name: str) -> Model:
        return Model(name, self._versions[name], self._is_default(name))

    def _by_number(self, model: Model, number: int) -> ModelVersion:
        for version in model.versions:
            if version.version == number:
                return version
        numbers = ", ".join(str(version.version) for version in model.versions)
        raise NotFoundError(
            f'model "{model.name}" has no version {number}; ready: {numbers}',
            reason="MODEL_VERSION_NOT_FOUND",
            resource=Resource("model", f"models/{model.name}/versions/{number}"),
        )

    def _by_digest(self, digest: str) -> ModelVersion:
        # The newest one, if the same files were published more than once.
        for version in sorted(_all(self._versions), key=lambda v: (-v.version, v.name)):
            if version.digest == digest:
                return version
        raise NotFoundError(
            f"no model version that is ready has the digest {digest}",
            reason="MODEL_DIGEST_NOT_FOUND",
            resource=Resource("model", digest),
        )

    def _unknown(self, name: str) -> NotFoundError:
        return NotFoundError(
            f'no model "{name}" is ready; ready: {self._names() or "none"}',
            reason="MODEL_NOT_FOUND",
            resource=Resource("model", f"models/{name}"),
        )

    def _names(self) -> str:
        return ", ".join(f'"{name}"' for name in sorted(self._versions))


def _all(versions: Mapping[str, tuple[ModelVersion, ...]]) -> set[ModelVersion]:
    return {version for of_model in versions.values() for version in of_model}


def _parameters(config: ModelConfig) -> dict[str, str]:
    return {key: value.string_value for key, value in config.parameters.items()}


def _card(text: str) -> dict[str, object]:
    try:
        card = json.loads(text)
    except ValueError:
        return {}
    return card if isinstance(card, dict) else {}
