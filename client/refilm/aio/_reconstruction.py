"""The responses of a reconstruction, whoever sends the film: as events, and into files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import grpc

from refilm import _wire as wire
from refilm._errors import DataLossError, InternalError
from refilm._latents import LatentsFile
from refilm._output import Output
from refilm._progress import Meter
from refilm._values import LatentBatch, Progress, Reconstruction, ReconstructionFacts
from refilm.aio._platform import blocking
from refilm.v1 import autoencoder_pb2, library_pb2

ReconstructionEvent = ReconstructionFacts | Progress | LatentBatch | bytes | Reconstruction
"""What `Client.reconstruct_stream` and `Client.watch_stream` yield."""

Responses = AsyncGenerator[
    autoencoder_pb2.ReconstructVideoResponse | library_pb2.WatchReconstructionResponse
]


async def reconstruction_events(
    responses: Responses, meter: Meter
) -> AsyncGenerator[ReconstructionEvent]:
    """Yields the service's responses; raises RefilmError."""
    facts: ReconstructionFacts | None = None
    summary: autoencoder_pb2.ReconstructionSummary | None = None
    async with aclosing(responses):
        async for response in responses:
            kind = response.WhichOneof("payload")
            if kind == "chunk":
                yield response.chunk
            elif kind == "progress":
                yield meter.progress(response.progress)
            elif kind == "latents":
                yield wire.latent_batch(response.latents)
            elif kind == "facts":
                facts = wire.reconstruction_facts(response.facts)
                meter.start(facts.film)
                yield facts
            elif kind == "summary":
                summary = response.summary
    # Only after the call's own end: the service counts a call left earlier as cancelled.
    if summary is None or facts is None:
        raise InternalError(
            "the service ended the reconstruction without its summary",
            code=grpc.StatusCode.INTERNAL,
        )
    yield meter.finish(summary)
    yield wire.reconstruction(summary, facts)


async def written(
    events: AsyncGenerator[ReconstructionEvent],
    output: Output,
    saved: LatentsFile | None,
    progress: Callable[[Progress], object] | None,
) -> Reconstruction:
    """Writes the events' bytes and latents, and returns the result.

    What a truncated film yields is kept under the partial names, which the DataLossError has.
    """
    facts: ReconstructionFacts | None = None
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, bytes):
                    await blocking(output.write, event)
                elif isinstance(event, Progress):
                    if progress is not None:
                        progress(event)
                elif isinstance(event, LatentBatch):
                    if saved is not None:
                        await blocking(saved.write, event)
                elif isinstance(event, ReconstructionFacts):
                    facts = event
                else:
                    result = event
    except DataLossError as error:
        error.partial = output.keep()
        if saved is not None and facts is not None:
            saved.keep(facts.output.model, facts.film)
        raise
    output.commit()
    if saved is not None:
        saved.commit(result.model, result.film)
    return result
