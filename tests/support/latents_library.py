"""The library of a running service, filled from outside."""

from collections.abc import Sequence
from dataclasses import dataclass

from refilm.v1 import autoencoder_pb2 as auto
from refilm.v1 import latents_pb2_grpc

from service.library.films import Film, Films
from service.library.records import StoredModel
from service.storage.objects import ObjectStore
from tests.support.service_process import ServiceProcess
from tests.support.stored_latents import Rows, store_film


@dataclass
class Library:
    """A service, its store and its models."""

    service: ServiceProcess
    store: ObjectStore
    models: dict[int, StoredModel]
    """The versions of the model "pca", by number."""

    @property
    def stub(self) -> latents_pb2_grpc.LatentsServiceStub:
        return latents_pb2_grpc.LatentsServiceStub(self.service.channel)

    def film(
        self,
        film_id: str,
        made_by: StoredModel | None,
        rows: Rows,
        *,
        part_rows: Sequence[int] = (240,),
    ) -> str:
        """Store a film with latents of one model, or none; return its name."""
        store_film(self.store, film_id, made_by, rows, part_rows=part_rows)
        return f"films/{film_id}"

    def get(self, film_id: str) -> Film:
        return Films(self.store).get(film_id)


def models_of(service: ServiceProcess) -> dict[int, StoredModel]:
    """Return the versions of the model "pca" that the service has."""
    found = service.stub.GetModel(auto.GetModelRequest(name="models/pca")).model
    return {
        number: StoredModel("pca", number, version.digest, version.recipe)
        for version in found.versions
        for number in [int(version.name.rpartition("/")[2])]
    }
