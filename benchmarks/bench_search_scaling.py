"""How do search's speed, memory and recall change as the library grows?

The index alone, in its own process for each size, over synthetic rows (`benchmarks.film_rows`); and
separately the exact re-ranking, which reads the rows around the candidates from the store.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np
from tritonclient.grpc.aio import InferenceServerClient

from benchmarks.environment import Environment
from benchmarks.film_rows import film_rows
from benchmarks.report import ROOT, Report, Row, Table
from benchmarks.rounds import Ratio, ratio
from film.facts import FilmFacts
from service.inference import Models
from service.library.films import Film, Films
from service.library.latents import Latents, LatentsManifest
from service.library.records import StoredModel
from service.search.engine import Search
from service.search.refresher import IndexRefresher
from service.search.rerank import Question
from service.storage.folder import FolderStore
from service.storage.objects import ObjectStore
from service.storage.threads import StorageThreads
from tests.support.object_stores import new_bucket
from tests.support.s3_server import S3Access, S3Server

MIB = 1024**2
MODEL = StoredModel("pca", 1, "sha256:" + "0" * 64, "pca")
FOLDER, S3 = "folder", "S3 (Ceph's gateway)"
RATE = 24
PART_ROWS = 240


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    films: tuple[int, ...] = (1, 10, 100, 1000)
    queries: int = 300
    stored_films: int = 20
    stored_seconds: int = 120
    stored_queries: int = 40
    with_s3: bool = True


def run(environment: Environment, plan: Plan | None = None) -> Report:
    """Measure every size, then the re-ranking."""
    plan = plan or Plan()
    measured = {films: _measure(films, plan.queries) for films in plan.films}
    return Report(
        name="search_scaling",
        title="Search as the library grows",
        question=(
            "How fast is a query, how much memory does the index take, how long does it take to "
            "build, and how many of the ten best rows of an exact search does it find, with 1 to "
            f"{max(plan.films):,} feature films of two hours, one row a second? {plan.queries} "
            "queries, each a row with noise (cosine about 0.89), for the 50 candidates that a "
            "search for ten hits takes. The rows are synthetic: `benchmarks/film_rows.py` says "
            "how, and how they were matched to real ones."
        ),
        tables=(_index_table(measured), _reading_table(environment, plan)),
    )


def _measure(films: int, queries: int) -> dict[str, float]:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.index_process", str(films), str(queries)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(result.stdout)
    return found


def _index_table(measured: dict[int, dict[str, float]]) -> Table:
    base = next(iter(measured.values()))["median"]
    rows = []
    for films, found in measured.items():
        share = found["median"] / base
        figures = (
            f"{found['rows']:,.0f}",
            f"{found['median']:.2f}",
            f"{found['p99']:.2f}",
            f"{found['recall']:.3f}",
            f"{found['resident'] / MIB:,.0f}",
            f"{found['peak'] / MIB:,.0f}",
            f"{found['adding'] + found['training']:,.1f}",
            f"{found['training']:,.1f}",
        )
        name = "1 film" if films == 1 else f"{films:,} films"
        rows.append(Row(name, Ratio(share, share, share), figures))
    return Table(
        title="The index, in the process",
        ratio_title="median time to the first row's",
        figure_titles=(
            "rows",
            "p50 ms",
            "p99 ms",
            "recall@10",
            "MiB",
            "MiB at most",
            "build s",
            "of it training",
        ),
        rows=tuple(rows),
        note=(
            "One query at a time, on one thread. MiB: growth of the process, and its peak during "
            "the build. Training runs in the background on half the cores while searches are "
            "answered. recall@10: the ten best of the candidates by exact cosine, against an exact "
            "search of all rows."
        ),
    )


def _reading_table(environment: Environment, plan: Plan) -> Table:
    times = {}
    for name, store in _stores(environment, plan):
        _fill(store, plan)
        times[name] = asyncio.run(_time_reading(store, plan))
    rows = [
        Row(name, ratio(seconds, times[FOLDER]), (f"{1000 * median(seconds):.1f}",))
        for name, seconds in times.items()
    ]
    return Table(
        title="Re-ranking: reading the rows around the candidates",
        ratio_title="time to the folder's",
        figure_titles=("ms a search, in the median",),
        rows=tuple(rows),
        note=(
            f"A first page of ten hits from {plan.stored_films} films of {plan.stored_seconds} s "
            f"at {RATE} frames a second: the index's 50 candidates, all frames within a second of "
            "each by range GET, exact cosines, passages, times, and each film's record once more."
        ),
    )


def _stores(environment: Environment, plan: Plan) -> Iterator[tuple[str, ObjectStore]]:
    folder = FolderStore(environment.folder / "library")
    folder.prepare()
    yield FOLDER, folder
    with _s3(environment.folder) as access:
        if access is not None and plan.with_s3:
            store = new_bucket(access).open()
            store.prepare()
            yield S3, store


@contextmanager
def _s3(folder: Path) -> Iterator[S3Access | None]:
    """Yield the environment's S3 server, or a new one, or None if none can be started."""
    access = S3Access.of_environment()
    if access is not None or S3Server.missing():
        yield access
        return
    with S3Server(folder / "s3") as server:
        yield server


def _fill(store: ObjectStore, plan: Plan) -> None:
    films, latents = Films(store), Latents(store)
    rows = plan.stored_seconds * RATE
    for number in range(plan.stored_films):
        film = Film(
            f"film-{number}", f"uid-{number}", "", 1, MODEL.digest, datetime.now(UTC), _facts()
        )
        films.add(film)
        seconds = film_rows(number, plan.stored_seconds + 1).astype(np.float32)
        places = np.arange(rows) / RATE
        share = (places % 1)[:, np.newaxis].astype(np.float32)
        before = places.astype(np.int64)
        embeddings = (1 - share) * seconds[before] + share * seconds[before + 1]
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        parts = [
            latents.write_part(
                film.id,
                MODEL.digest,
                "made",
                1 + start // PART_ROWS,
                latents=embeddings[start : start + PART_ROWS],
                embeddings=embeddings[start : start + PART_ROWS],
                pts=np.arange(start, min(rows, start + PART_ROWS), dtype=np.int64),
                detail=np.full(min(PART_ROWS, rows - start), 50, np.float32),
            )
            for start in range(0, rows, PART_ROWS)
        ]
        latents.commit(
            LatentsManifest(
                film.id,
                film.uid,
                MODEL,
                Fraction(1, RATE),
                0,
                rows,
                rows,
                tuple(parts),
                datetime.now(UTC),
            )
        )


async def _time_reading(store: ObjectStore, plan: Plan) -> list[float]:
    films, latents, threads = Films(store), Latents(store), StorageThreads()
    # The models are not used: the rows are given.
    models = Models(InferenceServerClient("127.0.0.1:1"))
    indexes = IndexRefresher(models, films, latents, threads)
    for number in range(plan.stored_films):
        manifest = latents.find(f"film-{number}", MODEL.digest)
        if manifest is None:
            raise AssertionError("a stored film is missing")
        rows = latents.index_rows(manifest)
        indexes.get(MODEL.digest).add(manifest.film, manifest.film_uid, rows)
    search = Search(films, latents, threads, indexes, duplicate_searches=1)
    random = np.random.default_rng(1)
    seconds = []
    for number in random.integers(plan.stored_films, size=plan.stored_queries + 1).tolist():
        row = film_rows(number, plan.stored_seconds + 1)[int(random.integers(plan.stored_seconds))]
        question = Question(MODEL.digest, row.astype(np.float32)[np.newaxis])
        began = time.perf_counter()
        page = await search.page(question, 10)
        seconds.append(time.perf_counter() - began)
        if page.hits[0].film.id != f"film-{number}":
            raise AssertionError("a frame of the library was not found")
    search.close()
    threads.close()
    return seconds[1:]


def _facts() -> FilmFacts:
    return FilmFacts(
        container="mp4",
        video_codec="h264",
        width=256,
        height=144,
        sample_aspect_ratio=Fraction(1),
        rotation=0,
        average_frame_rate=Fraction(RATE),
        time_base=Fraction(1, RATE),
        duration=None,
        estimated_frames=None,
        interlaced=False,
        transfer="bt709",
        tone_mapped=False,
        bit_depth=8,
        sound_tracks=(),
    )
