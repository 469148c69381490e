"""How fast are frames encoded and latents decoded, and what does the service add?

The model alone, called in this process, against the same model behind gRPC, the service and Triton:
one call after the other, sixteen at once, and one stream; pictures raw or as JPEG.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import numpy as np
import refilm
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.jit._fuser import optimized_execution

from benchmarks.environment import Environment
from benchmarks.report import Report, Row, Table
from benchmarks.rounds import Times, interleave, ratio
from film.image import encode_image
from trainer.export import load_torchscript

Item = TypeVar("Item")

BATCH = 32
CALLS_AT_ONCE = 16
BASELINE = f"TorchScript alone, batches of {BATCH}"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    frames: int = 96
    rounds: int = 5


def run(environment: Environment, plan: Plan | None = None) -> Report:
    """Measure both directions."""
    plan = plan or Plan()
    frames = environment.frames(plan.frames)
    with _triton_threads(), refilm.Client(environment.service.address) as client:
        encoder = load_torchscript(environment.torchscript("encoder"))
        decoder = load_torchscript(environment.torchscript("decoder"))
        with torch.inference_mode():
            latents = encoder(torch.from_numpy(frames))[0].numpy()
        encoding = interleave(_encode_variants(client, encoder, frames), plan.rounds)
        decoding = interleave(_decode_variants(client, decoder, latents), plan.rounds)
    return Report(
        name="encode",
        title="Frames to latents and back",
        question=(
            f"How fast are {len(frames)} frames of 256 x 144 encoded and decoded with the model "
            "`pca`, and what do gRPC, the service and Triton add to the model's own "
            f"time? The calls come from one process on the same machine; {plan.rounds} rounds."
        ),
        tables=(
            _table("Frames to latents", encoding, len(frames)),
            _table("Latents to frames", decoding, len(frames)),
        ),
    )


def _encode_variants(
    client: refilm.Client, encoder: torch.jit.ScriptModule, frames: NDArray[np.uint8]
) -> dict[str, Callable[[], object]]:
    jpegs = [encode_image(frame, "jpeg") for frame in frames]
    raw = list(frames)
    tensor = torch.from_numpy(frames)
    return {
        BASELINE: lambda: _in_batches(encoder, tensor, BATCH),
        "TorchScript alone, one by one": lambda: _in_batches(encoder, tensor, 1),
        "Encode, one after the other, raw": lambda: _one_by_one(client.encode, raw),
        "Encode, one after the other, JPEG": lambda: _one_by_one(client.encode, jpegs),
        f"Encode, {CALLS_AT_ONCE} at once, raw": lambda: _at_once(client.encode, raw),
        f"Encode, {CALLS_AT_ONCE} at once, JPEG": lambda: _at_once(client.encode, jpegs),
        "EncodeStream, raw": lambda: _all(client.encode_stream(raw)),
        "EncodeStream, JPEG": lambda: _all(client.encode_stream(jpegs)),
    }


def _decode_variants(
    client: refilm.Client, decoder: torch.jit.ScriptModule, latents: NDArray[np.float32]
) -> dict[str, Callable[[], object]]:
    items = list(latents)
    tensor = torch.from_numpy(latents)

    def as_jpeg(latent: NDArray[np.float32]) -> refilm.Picture:
        return client.decode(latent, format="jpeg")

    return {
        BASELINE: lambda: _in_batches(decoder, tensor, BATCH),
        "TorchScript alone, one by one": lambda: _in_batches(decoder, tensor, 1),
        "Decode, one after the other, raw": lambda: _one_by_one(client.decode, items),
        "Decode, one after the other, JPEG": lambda: _one_by_one(as_jpeg, items),
        f"Decode, {CALLS_AT_ONCE} at once, raw": lambda: _at_once(client.decode, items),
        f"Decode, {CALLS_AT_ONCE} at once, JPEG": lambda: _at_once(as_jpeg, items),
        "DecodeStream, raw": lambda: _all(client.decode_stream(items)),
        "DecodeStream, JPEG": lambda: _all(client.decode_stream(items, format="jpeg")),
    }


@contextmanager
def _triton_threads() -> Iterator[None]:
    """Let TorchScript use half the cores here, as in the local Triton's backend."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
    try:
        with optimized_execution(False):
            yield
    finally:
        torch.set_num_threads(before)


def _in_batches(module: torch.jit.ScriptModule, items: Tensor, size: int) -> None:
    with torch.inference_mode():
        for first in range(0, len(items), size):
            module(items[first : first + size])


def _one_by_one(call: Callable[[Item], object], items: Sequence[Item]) -> None:
    for item in items:
        call(item)


def _at_once(call: Callable[[Item], object], items: Sequence[Item]) -> None:
    with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
        _all(threads.map(call, items))


def _all(answers: Iterator[object]) -> None:
    for _ in answers:
        pass


def _table(title: str, times: Times, frames: int) -> Table:
    rows = []
    for name, seconds in times.items():
        each = median(seconds) / frames
        figures = (f"{each * 1000:.2f}", f"{1 / each:,.0f}")
        rows.append(Row(name, ratio(seconds, times[BASELINE]), figures))
    return Table(
        title=title,
        ratio_title="time to the first row's",
        figure_titles=("ms a frame", "frames a second"),
        rows=tuple(rows),
        note="TorchScript runs on half the cores, as it does in the local Triton.",
    )
