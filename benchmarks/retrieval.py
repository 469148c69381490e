"""Recall of distorted frames and clips, against two baselines.

    python -m benchmarks.retrieval FITTED.mp4 OTHER.mp4 --work FOLDER

A `pca` model is fitted to the first film; both films, of 24 pictures a second, are the library.
Distorted copies are cached in the folder.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Machine
from benchmarks.retrieval_films import (
    DISTORTIONS,
    EVERY,
    Described,
    Encode,
    LibrarySource,
    bars_of_queries,
    describe,
    distorted_film,
    fit_encoder,
    library_film,
    model_frames,
)
from benchmarks.retrieval_page import METHODS, Counts, Results, page
from film.letterbox import NO_BARS, Bars
from film.quality import is_flat
from service.library.latents import IndexRows
from service.search.alignment import (
    Alignment,
    ClipFrames,
    FilmWindow,
    align,
    judge,
    propose,
    similarities,
    windows,
)
from service.search.index import RowIndex
from service.search.match import MIN_CONFIDENCE

FRAME_RATE = 24
LENGTHS = (0, 3, 5, 10)
"""Seconds of the clips; 0: single frames."""
CLIP_STEP = 12
"""Sampled pictures between the starts of clips: 2.5 s."""
FRAME_STEP = 5
RIGHT_SECONDS = 1.0
ALIKE_LEVELS = 4.0
"""Passages that differ less have no unique answer; see the page."""
CANDIDATES = 20


class Library:
    """The frames of all films, numbered consecutively."""

    def __init__(self, films: list[LibrarySource]) -> None:
        self.films = films
        self.starts = np.cumsum([0, *(len(film.seconds) for film in films)])
        self.index = RowIndex()
        for film in films:
            whole = np.flatnonzero(np.diff(np.floor(film.seconds), prepend=-1.0) > 0)
            rows = np.union1d(whole, [len(film.seconds) - 1]).astype(np.int64)
            frames = film.frames
            index_rows = IndexRows(
                rows, frames.embeddings[rows], frames.detail[rows], film.seconds[rows]
            )
            self.index.add(film.name, film.name, index_rows)
        self.visible = ~is_flat(self._joined("detail"))

    def _joined(self, name: str) -> NDArray[np.float32]:
        return np.concatenate([getattr(film.frames, name) for film in self.films])

    def distances(self, name: str, own: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the root mean square difference of some pictures to every frame, [N, frames]."""
        theirs = self._joined(name)
        squares = (theirs**2).sum(1)[None] + (own**2).sum(1)[:, None] - 2 * own @ theirs.T
        difference: NDArray[np.float32] = np.sqrt(np.maximum(squares, 0) / own.shape[1])
        return difference

    def is_right(self, row: int, film: int, seconds: float) -> bool:
        """Return whether a frame is within a second of a time."""
        first, end = self.starts[film], self.starts[film + 1]
        if not first <= row < end:
            return False
        found = self.films[film].seconds[row - first]
        return bool(abs(found - seconds) <= RIGHT_SECONDS)

    def best_row(
        self, distances: NDArray[np.float32], without: tuple[int, float] | None = None
    ) -> tuple[int, float]:
        """Align a clip at every offset of every film; return the best first row and its distance.

        Args:
            distances: of the clip's pictures to every frame, [N, frames].
            without: a film and a time around which offsets are excluded.
        """
        count = len(distances)
        best = (0, float("inf"))
        for number, film in enumerate(self.films):
            first, end = self.starts[number], self.starts[number + 1]
            last = end - first - (count - 1) * EVERY
            if last <= 0:
                continue
            sums = np.zeros(last)
            for place, row in enumerate(distances[:, first:end]):
                sums += row[place * EVERY : place * EVERY + last]
            if without is not None and without[0] == number:
                sums[np.abs(film.seconds[:last] - without[1]) <= RIGHT_SECONDS] = np.inf
            least = int(np.argmin(sums))
            if sums[least] / count < best[1]:
                best = (int(first) + least, float(sums[least] / count))
        return best


def match(
    library: Library, seconds: NDArray[np.float64], variants: list[Described], films: list[str]
) -> Alignment | None:
    """Match a clip as the service does, with arrays instead of reads of stored rows."""
    by_name = {film.name: film for film in library.films}
    selection = library.index.select(films)
    best: Alignment | None = None
    for described in variants:
        seen = ~is_flat(described.detail)
        if not seen.any():
            continue
        clip = ClipFrames(seconds[seen], described.embeddings[seen])
        candidates = library.index.search(clip.embeddings, CANDIDATES, selection)
        alignments = []
        for place in propose(clip, candidates):
            film = by_name[place.film]
            parts = []
            for own, start, stop in windows(clip, place):
                low, high = np.searchsorted(film.seconds, [start, stop])
                window = FilmWindow(film.seconds[low:high], film.frames.embeddings[low:high])
                part = ClipFrames(clip.seconds[own], clip.embeddings[own])
                parts.append(similarities(part, place, window))
            alignments.append(align(place, np.concatenate(parts)))
        judged = judge([one for one in alignments if one is not None])
        if judged and (best is None or judged[0].confidence > best.confidence):
            best = judged[0]
    return best


def queries_of(pictures: int) -> list[tuple[int, slice]]:
    """Return the queries of a film: lengths in seconds, and slices of the sampled pictures."""
    queries = []
    for length in LENGTHS:
        count = max(1, round(length * FRAME_RATE / EVERY))
        step = CLIP_STEP if length else FRAME_STEP
        queries += [
            (length, slice(first, first + count)) for first in range(0, pictures - count + 1, step)
        ]
    return sorted(queries, key=lambda query: query[1].start)


class Ambiguity:
    """Finds the queries without a unique answer, from the source alone."""

    def __init__(self, library: Library, number: int) -> None:
        frames = library.films[number].frames
        self._library, self._number = library, number
        self._flat = is_flat(frames.detail[::EVERY])
        self._seconds = library.films[number].seconds[::EVERY]
        self._distances = library.distances("small", frames.small[::EVERY])
        self._known: dict[tuple[int, int], bool] = {}

    def __call__(self, query: slice) -> bool:
        """Return whether a query has no unique answer."""
        key = query.start, query.stop
        if key not in self._known:
            self._known[key] = self._is_ambiguous(query)
        return self._known[key]

    def _is_ambiguous(self, query: slice) -> bool:
        if self._flat[query].mean() > 0.5:
            return True
        own = self._number, float(self._seconds[query.start])
        return self._library.best_row(self._distances[query], own)[1] < ALIKE_LEVELS


def measure(
    library: Library, number: int, path: Path, every: int, encode: Encode, is_ambiguous: Ambiguity
) -> dict[int, Counts]:
    """Run all queries of one film under one distortion; return the counts by length."""
    film = library.films[number]
    seconds = film.seconds[::EVERY]
    queries = queries_of(len(seconds))
    bars = bars_of_queries(path, every, [query for _, query in queries])
    wanted: dict[int, list[Bars]] = {}
    for (_, query), own in zip(queries, bars, strict=True):
        for picture in range(query.start, query.stop):
            known = wanted.setdefault(picture, [])
            known += [one for one in (own, NO_BARS) if one not in known]
    order = {
        key: place
        for place, key in enumerate(
            (picture, one) for picture in sorted(wanted) for one in wanted[picture]
        )
    }
    described = describe(model_frames(path, every, wanted), encode)
    hashes = library.distances("hashes", described.hashes)
    pixels = library.distances("pixels", described.pixels)
    # Exact search among the frames that are not flat, like SearchFrames.
    cosines = described.embeddings @ library._joined("embeddings").T
    cosines[:, ~library.visible] = -1
    results = {length: Counts() for length in LENGTHS}
    everything = [one.name for one in library.films]
    others = [one.name for one in library.films if one is not film]
    for (length, query), own in zip(queries, bars, strict=True):
        counts = results[length]
        pictures = range(query.start, query.stop)
        start = float(seconds[query.start])
        variants = [own, NO_BARS] if own else [NO_BARS]
        places = [[order[picture, one] for picture in pictures] for one in variants]
        counts.queries += 1
        counts.bars += bool(own)
        hits = {}
        for name, distances in (("pHash 64", hashes), ("pixels 16 x 9", pixels)):
            row, _ = min((library.best_row(distances[rows]) for rows in places), key=lambda b: b[1])
            hits[name] = library.is_right(row, number, start)
        answered = False
        if length == 0:
            best = max((rows[0] for rows in places), key=lambda row: cosines[row].max())
            hits["refilm"] = library.is_right(int(cosines[best].argmax()), number, start)
        else:
            clip = [_chosen(described, rows) for rows in places]
            times = seconds[query] - start
            found = match(library, times, clip, everything)
            hits["refilm"] = found is not None and (
                found.place.film == film.name and abs(found.place.offset - start) <= RIGHT_SECONDS
            )
            answered = hits["refilm"] and found is not None and found.confidence >= MIN_CONFIDENCE
            stranger = match(library, times, clip, others)
            counts.unknown += 1
            counts.rejected += stranger is None or stranger.confidence < MIN_CONFIDENCE
        if is_ambiguous(query):
            counts.ambiguous += 1
            counts.right_ambiguous += hits["refilm"]
            continue
        counts.answered += answered
        for name in METHODS:
            counts.right[name] += hits[name]
    return results


def _chosen(described: Described, rows: list[int]) -> Described:
    return Described(
        *(getattr(described, name)[rows] for name in ("embeddings", "detail", "hashes")),
        *(getattr(described, name)[rows] for name in ("pixels", "small")),
    )


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("fitted", type=Path, help="the film that the model is fitted to")
    parser.add_argument("other", type=Path, help="the other film in the library")
    parser.add_argument("--work", type=Path, required=True, help="for distorted films")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "retrieval.md"
    )
    options = parser.parse_args()
    machine = Machine.here()
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        encode = fit_encoder(options.fitted, Path(folder))
    library = Library([library_film(path, encode) for path in (options.fitted, options.other)])
    results: dict[str, Results] = {}
    for number, film in enumerate(library.films):
        is_ambiguous = Ambiguity(library, number)
        results[film.name] = {}
        for distortion in DISTORTIONS:
            path, every = distorted_film(film.path, distortion, options.work)
            counts = measure(library, number, path, every, encode, is_ambiguous)
            for length, one in counts.items():
                results[film.name][distortion.name, length] = one
                print(film.name, distortion.name, length, one, flush=True)
    options.out.write_text(page(results, machine), "utf-8")


if __name__ == "__main__":
    main()
