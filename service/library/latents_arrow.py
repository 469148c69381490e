"""A film's latents as an Arrow IPC stream."""

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from service.library.latents_manifest import LatentsManifest
from service.library.latents_reader import LATENT_SIZE, LatentsReader
from service.storage.objects import CHUNK_BYTES


def arrow_bytes(latents: LatentsReader, manifest: LatentsManifest) -> Iterator[bytes]:
    """Yield the stream's bytes, at most 1 MiB at a time: one record batch per part.

    Columns: pts (int64, in the time base), seconds (float64, from the first frame) and latent (200
    float32). The schema's metadata names film, model, version, digest, recipe and time_base (in
    seconds, "1/24000"). Raises DamagedError.
    """
    schema = pa.schema(
        [
            pa.field("pts", pa.int64(), nullable=False),
            pa.field("seconds", pa.float64(), nullable=False),
            pa.field("latent", pa.list_(pa.float32(), LATENT_SIZE), nullable=False),
        ],
        metadata={
            "film": f"films/{manifest.film}",
            "model": manifest.model.name,
            "version": str(manifest.model.version),
            "digest": manifest.model.digest,
            "recipe": manifest.model.recipe,
            "time_base": str(manifest.time_base),
        },
    )
    sink = io.BytesIO()
    writer = pa.ipc.new_stream(sink, schema)
    for chunk in latents.parts(manifest):
        seconds = [float(manifest.seconds(pts)) for pts in chunk.pts.tolist()]
        values = pa.array(chunk.latents.reshape(-1))
        writer.write_batch(
            pa.record_batch(
                [
                    pa.array(chunk.pts),
                    pa.array(np.array(seconds, np.float64)),
                    pa.FixedSizeListArray.from_arrays(values, LATENT_SIZE),
                ],
                schema=schema,
            )
        )
        yield from _taken(sink)
    writer.close()
    yield from _taken(sink)


def _taken(sink: io.BytesIO) -> Iterator[bytes]:
    """Yield what was written since the last time."""
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
