"""The retrieval benchmark's films, their distorted copies, and their descriptors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import imagehash
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.distortions import Brightening, Distortion, Watermark, distort, together
from film.letterbox import Bars, BarsFinder
from film.quality import frame_detail
from film.read.film_reader import FilmReader
from film.read.luma import LumaReader
from film.read.pictures import Renderer, orientation_of
from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from trainer.prepare import Sampling, prepare
from trainer.recipes.pca import PcaEncoder, find_components

EVERY = 5
"""Every n-th picture (of 24 a second) is distorted and queried: 4.8 a second."""

UNDISTORTED = Distortion("undistorted")
SINGLE = (
    Distortion("re-encoded", crf=42),
    Distortion("resized", size=(320, 240)),
    Distortion("letterboxed", canvas=Fraction(4, 3)),
    Distortion("brightened", brightening=Brightening(gain=1.15, gamma=0.75, offset=0.06)),
    Distortion("watermarked", watermark=Watermark("REFILM TV", True, False, 0.4, 0.25, 0.75)),
)
DISTORTIONS = (UNDISTORTED, *SINGLE, together("all together", *SINGLE))

_BATCH = 32

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Model frames [N, 144, 256, 3] to embeddings [N, 200]."""


@dataclass(slots=True)
class Described:
    """Descriptors of pictures, for every method."""

    embeddings: NDArray[np.float32]
    """[N, 200]"""
    detail: NDArray[np.float32]
    """[N]"""
    hashes: NDArray[np.float32]
    """64-bit perceptual hashes, -1 and 1, [N, 64]."""
    pixels: NDArray[np.float32]
    """RGB at 16 x 9, [N, 432]."""
    small: NDArray[np.float32]
    """RGB at 64 x 36, [N, 6912]."""


@dataclass(slots=True)
class LibrarySource:
    """A film in the library, with all its frames."""

    name: str
    path: Path
    seconds: NDArray[np.float64]
    frames: Described


def fit_encoder(film: Path, folder: Path) -> Encode:
    """Fit a `pca` model to every third frame of a film, as `python -m trainer train` does."""
    data, _ = prepare([film], folder / "data", Sampling(every=3), lambda *_: None)
    data = data.with_all_fitted()
    encoder = PcaEncoder(find_components(data, lambda _: None))
    data.close()

    def encode(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            embeddings: NDArray[np.float32] = encoder(torch.from_numpy(frames))[1].numpy()
        # As stored.
        return embeddings.astype(np.float16).astype(np.float32)

    return encode


def describe(frames: Iterator[NDArray[np.uint8]], encode: Encode) -> Described:
    """Describe a stream of model frames."""
    parts: list[Described] = []
    batch: list[NDArray[np.uint8]] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == _BATCH:
            parts.append(_described(np.stack(batch), encode))
            batch = []
    if batch:
        parts.append(_described(np.stack(batch), encode))
    return Described(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("embeddings", "detail", "hashes", "pixels", "small")
        )
    )


def _described(frames: NDArray[np.uint8], encode: Encode) -> Described:
    hashes = [imagehash.phash(Image.fromarray(frame)).hash.ravel() for frame in frames]
    return Described(
        encode(frames),
        frame_detail(frames),
        np.stack(hashes).astype(np.float32) * 2 - 1,
        _averages(frames, 16),
        _averages(frames, 4),
    )


def _averages(frames: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    high, wide = MODEL_FRAME_HEIGHT // side, MODEL_FRAME_WIDTH // side
    blocks = frames.reshape(len(frames), high, side, wide, side, 3)
    averages: NDArray[np.float32] = blocks.mean((2, 4), dtype=np.float32)
    return averages.reshape(len(frames), -1)


def library_film(path: Path, encode: Encode) -> LibrarySource:
    """Read a film as the library does."""
    seconds: list[float] = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        with path.open("rb") as file, FilmReader(file, sound=False) as reader:
            for batch in reader.batches(_BATCH):
                seconds.extend(float(pts * reader.facts.time_base) for pts in batch.pts.tolist())
                yield from batch.frames

    described = describe(frames(), encode)
    return LibrarySource(path.stem, path, np.array(seconds) - seconds[0], described)


def distorted_film(film: Path, distortion: Distortion, folder: Path) -> tuple[Path, int]:
    """Return a film's distorted copy (made if missing) and the step between queried pictures."""
    if distortion is UNDISTORTED:
        return film, EVERY
    path = folder / f"{film.stem}_{distortion.name.replace(' ', '_')}.mp4"
    if not path.exists():
        unfinished = path.with_suffix(".part")
        distort(film, unfinished, distortion, every=EVERY, first=0)
        unfinished.replace(path)
    return path, 1


def bars_of_queries(path: Path, every: int, queries: list[slice]) -> list[Bars]:
    """Find the bars of each query by its own pictures, as MatchClip does.

    Args:
        path: the distorted film.
        every: step between the queried pictures.
        queries: slices of the queried pictures, by increasing start.
    """
    found: list[Bars | None] = [None] * len(queries)
    finders: dict[int, BarsFinder] = {}
    waiting, reader = 0, LumaReader()
    for number, frame in _pictures(path, every):
        while waiting < len(queries) and queries[waiting].start <= number:
            finders[waiting] = BarsFinder()
            waiting += 1
        luma = reader.read(frame)
        for query, finder in list(finders.items()):
            finder.add(luma)
            if queries[query].stop == number + 1:
                found[query] = finders.pop(query).find()
    return [bars if bars is not None else Bars() for bars in found]


def model_frames(
    path: Path, every: int, wanted: dict[int, list[Bars]]
) -> Iterator[NDArray[np.uint8]]:
    """Yield model frames of the wanted pictures, once for each variant of bars to crop."""
    renderers: dict[Bars, Renderer] = {}
    for number, frame in _pictures(path, every):
        for bars in wanted.get(number, []):
            if bars not in renderers:
                renderers[bars] = Renderer(MODEL_FRAME_WIDTH, MODEL_FRAME_HEIGHT, bars)
            yield renderers[bars].render(frame, orientation_of(frame))


def _pictures(path: Path, every: int) -> Iterator[tuple[int, av.VideoFrame]]:
    with path.open("rb") as file, FilmReader(file, sound=False) as reader:
        for number, (frame, _, _) in enumerate(reader.pictures()):
            if number % every == 0:
                yield number // every, frame
