"""grpc.health.v1: SERVING only while a service's dependencies are ready.

The whole server ("") and AutoencoderService need a model, LibraryService and LatentsService the
store; those of their methods that also need a model fail individually.

Implemented here because grpcio-health-checking's aio servicer shares one condition among all
watchers of a service and drops it when the first one leaves: the others get no more updates.
"""

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from refilm.v1 import autoencoder_pb2, latents_pb2, library_pb2

_ON_MODELS = ("", autoencoder_pb2.DESCRIPTOR.services_by_name["AutoencoderService"].full_name)
_ON_STORE = (
    library_pb2.DESCRIPTOR.services_by_name["LibraryService"].full_name,
    latents_pb2.DESCRIPTOR.services_by_name["LatentsService"].full_name,
)
SERVICE_NAMES = _ON_MODELS + _ON_STORE

_Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """The health of the whole server ("") and of its services."""

    def __init__(self) -> None:
        self._models = False
        self._store = False
        self._draining = False
        self._changed = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register this servicer with a server."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def set_models(self, serving: bool) -> None:
        """Set whether a model is ready."""
        self._models = serving
        self._notify()

    def set_store(self, serving: bool) -> None:
        """Set whether the library's store is reachable."""
        self._store = serving
        self._notify()

    def drain(self) -> None:
        """Report NOT_SERVING from now on."""
        self._draining = True
        self._notify()

    async def Check(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[
            health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        ],
    ) -> health_pb2.HealthCheckResponse:
        """Return the health of one service; NOT_FOUND for an unknown one."""
        if request.service not in SERVICE_NAMES:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                "no such service here; known: " + ", ".join(f'"{name}"' for name in SERVICE_NAMES),
            )
        return _Status(status=self._status(request.service))

    async def Watch(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[
            health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        ],
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Send the health now and after every change, until the caller disconnects."""
        last: int | None = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != last:
                last = status
                yield _Status(status=status)
            await changed.wait()

    def _status(self, service: str) -> int:
        if service not in SERVICE_NAMES:
            return _Status.SERVICE_UNKNOWN
        up = self._store if service in _ON_STORE else self._models
        serving = up and not self._draining
        return _Status.SERVING if serving else _Status.NOT_SERVING

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
