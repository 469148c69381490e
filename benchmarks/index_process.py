"""Builds and queries one index in its own process; prints time and memory as JSON.

python -m benchmarks.index_process FILMS QUERIES
"""

import json
import os
import sys
import time
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.film_rows import ROWS, SIZE, film_rows
from service.library.latents import IndexRows
from service.search.index import RowIndex

CANDIDATES = 50
"""Candidates that a search for ten hits takes from the index."""
BEST = 10
_NOISE = 0.5
"""Of the queries' length: a cosine of 0.89 to the row, like a re-encoded picture."""


def main(films: int, queries: int) -> None:
    """Measure an index of so many films."""
    faiss.omp_set_num_threads(max(1, (os.cpu_count() or 1) // 2))  # as the service trains
    before = _resident()
    index = RowIndex()
    adding = training = 0.0
    for number in range(films):
        rows = _index_rows(film_rows(number))
        began = time.perf_counter()
        index.add(f"film-{number}", f"uid-{number}", rows)
        wants_training = index.move_rows()
        adding += time.perf_counter() - began
        if wants_training:
            began = time.perf_counter()
            index.train(lambda: False)
            training += time.perf_counter() - began
    resident = _resident() - before
    peak = _memory("VmHWM") - before
    asked = _queries(films, queries)
    index.search(asked[:1], CANDIDATES)
    seconds = []
    found = []
    for query in asked:
        began = time.perf_counter()
        (candidates,) = index.search(query[np.newaxis], CANDIDATES)
        seconds.append(time.perf_counter() - began)
        found.append({(one.film, one.row) for one in candidates})
    exact = _exact(films, asked)
    recall = np.mean([len(a & b) / BEST for a, b in zip(found, exact, strict=True)])
    milliseconds = 1000 * np.array(seconds)
    print(
        json.dumps(
            {
                "rows": len(index),
                "median": float(np.median(milliseconds)),
                "p99": float(np.percentile(milliseconds, 99)),
                "recall": float(recall),
                "resident": resident,
                "peak": peak,
                "adding": adding,
                "training": training,
            }
        )
    )


def _index_rows(rows: NDArray[np.float16]) -> IndexRows:
    count = len(rows)
    return IndexRows(
        np.arange(count, dtype=np.int64) * 24,
        rows.astype(np.float32),
        np.full(count, 50, np.float32),
        np.arange(count, dtype=np.float64),
    )


def _queries(films: int, count: int) -> NDArray[np.float32]:
    random = np.random.default_rng(-1 % 2**32)
    chosen = random.integers(films, size=min(count, 50))
    queries = []
    for place, number in enumerate(chosen):
        rows = film_rows(int(number)).astype(np.float32)
        for row in random.integers(ROWS, size=len(range(place, count, len(chosen)))):
            noise = random.standard_normal(SIZE) / SIZE**0.5
            query = rows[row] + _NOISE * noise
            queries.append(query / np.linalg.norm(query))
    return np.stack(queries).astype(np.float32)


def _exact(films: int, queries: NDArray[np.float32]) -> list[set[tuple[str, int]]]:
    """Return the best rows of each query, all rows compared."""
    similarity = np.full((len(queries), BEST), -2.0, np.float32)
    places = np.zeros((len(queries), BEST), np.int64)
    for number in range(films):
        rows = film_rows(number).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        flat = faiss.IndexFlatIP(SIZE)
        flat.add(rows)
        best, ids = flat.search(queries, BEST)
        similarity = np.concatenate([similarity, best], axis=1)
        places = np.concatenate([places, ids + number * ROWS], axis=1)
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :BEST]
        similarity = np.take_along_axis(similarity, order, axis=1)
        places = np.take_along_axis(places, order, axis=1)
    return [
        {(f"film-{p // ROWS}", p % ROWS * 24) for p in of_query} for of_query in places.tolist()
    ]


def _resident() -> int:
    return _memory("VmRSS")


def _memory(name: str) -> int:
    """Return this process's memory in bytes."""
    status = Path("/proc/self/status").read_text("utf-8")
    facts = dict(line.split(":", 1) for line in status.splitlines())
    return int(facts[name].split()[0]) * 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
