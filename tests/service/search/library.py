"""Films that can be searched, and services that search them."""

from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration
from refilm.v1 import latents_pb2 as pb
from refilm.v1 import latents_pb2_grpc

from service.library.records import StoredModel
from service.storage.objects import ObjectStore
from tests.support.messages import latent
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.shots import Shot, pictures, rows_of
from tests.support.stored_latents import Rows, store_film

TIMEOUT_SECONDS = 60


@dataclass
class SearchLibrary:
    """Films with latents of the tiny models, and services that search them."""

    kept: ObjectStore
    services: list[ServiceProcess]
    models: dict[int, StoredModel]
    """The versions of the model "pca", by number."""

    def store(self, film_id: str, shots: list[Shot], version: int = 2) -> Rows:
        """Keep a film with its latents of a model version."""
        rows = rows_of(pictures(shots), seed=version)
        store_film(self.kept, film_id, self.models[version], rows, part_rows=(50,))
        return rows

    def stub(self, replica: int = 0) -> latents_pb2_grpc.LatentsServiceStub:
        return latents_pb2_grpc.LatentsServiceStub(self.services[replica].channel)

    def search(self, replica: int = 0, **request: Any) -> pb.SearchFramesResponse:
        """Search; keyword arguments are fields of SearchFramesRequest."""
        message = pb.SearchFramesRequest(**request)
        return self.stub(replica).SearchFrames(message, timeout=TIMEOUT_SECONDS)

    def duplicates(self, replica: int = 0, **request: Any) -> pb.FindDuplicatesResponse:
        message = pb.FindDuplicatesRequest(**request)
        return self.stub(replica).FindDuplicates(message, timeout=TIMEOUT_SECONDS)

    def wait_for_index(self, *films: str) -> None:
        """Wait until every replica has these films in the index of version 2."""

        def indexed() -> bool:
            query = latent([1.0] * 200, self.models[2].digest)
            return all(
                self.search(number, latent=query, films=films, page_size=1).films_left_out == 0
                for number in range(len(self.services))
            )

        wait_for(indexed, f"{', '.join(films)} in the index")


def all_pages(library: SearchLibrary, **request: Any) -> list[pb.SearchHit]:
    """Go through all pages of a search; return all hits."""
    hits: list[pb.SearchHit] = []
    token = ""
    while True:
        answer = library.search(page_token=token, **request)
        hits += answer.hits
        token = answer.next_page_token
        if not token:
            return hits


def seconds(duration: Duration) -> float:
    return duration.ToMicroseconds() / 1e6


def span(hit: pb.SearchHit | pb.Passage) -> tuple[str, float, float]:
    return hit.film, seconds(hit.start_time), seconds(hit.end_time)
