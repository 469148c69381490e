"""Does the service's memory grow with the library?

Lists few films and many, downloads a small object and a large one, from a folder and, if Ceph is
installed, from a real S3 server. The films are records only, the objects zeros.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from refilm.v1 import library_pb2 as pb

from benchmarks.environment import Environment
from benchmarks.film_client import peak_kilobytes
from benchmarks.report import Report, Row, Table
from benchmarks.rounds import ratio
from service.library import layout
from service.library.films import Films
from service.storage.objects import ObjectStore
from tests.support.library_calls import SERVICE, LibraryClient, start_library
from tests.support.library_films import put_films, synthetic_film
from tests.support.object_stores import LibraryStore, new_bucket
from tests.support.s3_server import S3Server
from tests.support.service_process import ServiceProcess

MIB = 2**20
_ZEROS = bytes(64 * MIB)
_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    few_films: int = 100
    films: int = 10_000
    small_mebibytes: int = 64
    large_mebibytes: int = 4096
    with_s3: bool = True


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement."""

    seconds: float
    peak: float
    """Peak memory of the service in MiB."""


def run(environment: Environment, plan: Plan | None = None) -> Report:
    """Measure on each kind of store."""
    plan = plan or Plan()
    lists: list[Row] = []
    downloads: list[Row] = []
    for name, kept in _stores(environment.folder, plan):
        store = kept.open()
        store.prepare()
        with start_library(environment.folder / f"service-{len(lists)}", kept) as service:
            service.wait_until_serving(SERVICE)
            lists.append(_lists(name, service, store, plan))
            downloads.append(_downloads(name, service, store, plan))
    return Report(
        name="library",
        title="Memory and the library's size",
        question=(
            f"Does the service's memory grow with the library? Listing all of "
            f"{plan.few_films} films and of {plan.films:,}; downloading "
            f"{plan.small_mebibytes} MiB and of {plan.large_mebibytes:,} MiB."
        ),
        tables=(
            Table(
                title=f"Listing {plan.films:,} films",
                ratio_title=f"peak memory, {plan.films:,} films to {plan.few_films}",
                figure_titles=("MiB, few", "MiB, many", "seconds, many", "films/s"),
                rows=tuple(lists),
            ),
            Table(
                title=f"Downloading {plan.large_mebibytes:,} MiB",
                ratio_title="peak memory, large to small",
                figure_titles=("MiB, small", "MiB, large", "seconds, large", "MiB/s"),
                rows=tuple(downloads),
                note="Client and service share the machine, and on S3 the server as well.",
            ),
        ),
    )


def _stores(folder: Path, plan: Plan) -> Iterator[tuple[str, LibraryStore]]:
    yield "a folder", LibraryStore({"REFILM_STORAGE_DIRECTORY": str(folder / "library")})
    if plan.with_s3 and not S3Server.missing():
        with S3Server(folder / "s3") as server:
            yield "an S3 server (Ceph)", new_bucket(server)


def _lists(name: str, service: ServiceProcess, store: ObjectStore, plan: Plan) -> Row:
    client = LibraryClient(service.channel)

    def all_films(count: int) -> None:
        if len(client.all(page_size=200)) != count:
            raise AssertionError("the list is incomplete")

    put_films(store, map(synthetic_film, range(plan.few_films)))
    all_films(plan.few_films)  # Warm-up.
    few = _measured(service, lambda: all_films(plan.few_films))
    put_films(store, map(synthetic_film, range(plan.few_films, plan.films)))
    many = _measured(service, lambda: all_films(plan.films))
    store.delete(info.key for info in store.list(layout.FILMS))
    return _row(name, few, many, plan.films)


def _downloads(name: str, service: ServiceProcess, store: ObjectStore, plan: Plan) -> Row:
    client = LibraryClient(service.channel)

    def whole(size: int) -> None:
        request = pb.DownloadFilmRequest(name=f"films/zeros-{size}")
        responses = client.stub.DownloadFilm(request, timeout=_SECONDS)
        if sum(len(response.chunk) for response in responses) != size * MIB:
            raise AssertionError("the download is incomplete")

    for size in (plan.small_mebibytes, plan.large_mebibytes):
        _put_zeros(store, f"zeros-{size}", size)
    whole(plan.small_mebibytes)  # Warm-up.
    small = _measured(service, lambda: whole(plan.small_mebibytes))
    large = _measured(service, lambda: whole(plan.large_mebibytes))
    return _row(name, small, large, plan.large_mebibytes)


def _put_zeros(store: ObjectStore, film_id: str, mebibytes: int) -> None:
    """Store a film of zeros, composed within the store."""
    whole, rest = divmod(mebibytes * MIB, len(_ZEROS))
    parts = ["uploads/zeros/source"] * whole
    store.put("uploads/zeros/source", _ZEROS)
    if rest:
        store.put("uploads/zeros/rest", _ZEROS[:rest])
        parts.append("uploads/zeros/rest")
    store.compose(layout.film_source(film_id), parts)
    Films(store).add(replace(synthetic_film(0), id=film_id, size=mebibytes * MIB))


def _measured(service: ServiceProcess, call: Callable[[], None]) -> Measurement:
    # Resets the peak to the current value.
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5", "utf-8")
    began = time.perf_counter()
    call()
    seconds = time.perf_counter() - began
    return Measurement(seconds, peak_kilobytes(service.process.pid) / 1024)


def _row(name: str, little: Measurement, much: Measurement, amount: int) -> Row:
    return Row(
        name,
        ratio([much.peak], [little.peak]),
        (
            f"{little.peak:.0f}",
            f"{much.peak:.0f}",
            f"{much.seconds:.1f}",
            f"{amount / much.seconds:,.0f}",
        ),
    )
