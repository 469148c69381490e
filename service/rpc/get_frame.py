"""GetFrame: one reconstructed frame of a film, decoded from the stored latents."""

from fractions import Fraction

import grpc
import numpy as np
from numpy.typing import NDArray
from refilm.v1 import library_pb2 as pb

from service.errors import ClientSideError
from service.inference import Inference, Models
from service.library.films import Film
from service.library.latents import LatentsManifest
from service.library.library import Library
from service.rpc import messages, names
from service.rpc.call import Context, current_call
from service.rpc.download_film import find_latents, find_rendition
from service.rpc.durations import duration, seconds_of
from service.rpc.film_latents import FilmLatents
from service.rpc.picture_calls import Pictures


class SourceFramesError(ClientSideError):
    """The request asks for a picture of the film itself."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "SOURCE_FRAMES_UNSUPPORTED"


class FilmFrameCalls:
    """Handles GetFrame."""

    def __init__(
        self,
        models: Models,
        inference: Inference,
        film_latents: FilmLatents,
        library: Library,
        pictures: Pictures,
    ) -> None:
        self._models = models
        self._inference = inference
        self._film_latents = film_latents
        self._renditions = library.renditions
        self._latents = library.latents
        self._pictures = pictures

    async def GetFrame(
        self,
        request: pb.GetFrameRequest,
        context: "Context[pb.GetFrameRequest, pb.GetFrameResponse]",
    ) -> pb.GetFrameResponse:
        """Get one frame as reconstructed by a model."""
        parsed = names.parse_download_name(request.name, "name")
        if isinstance(parsed, str):
            raise SourceFramesError(
                f"{request.name}: this version of the service shows no pictures of a film itself; "
                "name one of its renditions or latents"
            )
        image_format = messages.image_format(request.format, "format", "jpeg")
        seconds = seconds_of(request.time, "time")
        film = await self._film_latents.film(names.film_name(parsed.film), "name")
        manifest = await self._film_latents.read(film, lambda: self._manifest(film, parsed))
        model = self._models.resolve(digest=manifest.model.digest)
        current_call().model = model
        time, latent = await self._film_latents.read(film, lambda: self._row(manifest, seconds))
        decoded = await self._inference.decode(
            model, latent, within=context.time_remaining(), patient=False
        )
        (frame,) = await self._pictures.messages(decoded.frames, image_format)
        # Right before the response: nothing of a deleted film is returned.
        await self._film_latents.watch.require(film)
        current_call().frames = 1
        return pb.GetFrameResponse(
            frame=frame,
            time=duration(time),
            model=messages.model_identity(model),
        )

    # Run on the storage threads.

    def _manifest(
        self, film: Film, name: names.RenditionName | names.LatentsName
    ) -> LatentsManifest:
        """Return a rendition's latents, or those named; raises NotFoundError."""
        if isinstance(name, names.RenditionName):
            digest = find_rendition(self._renditions, film, name.rendition).model.digest
        else:
            digest = name.digest
        return find_latents(self._latents, film, digest)

    def _row(
        self, manifest: LatentsManifest, seconds: Fraction
    ) -> tuple[Fraction, NDArray[np.float32]]:
        """Return the start time of the frame shown at a time, and its latent [1, 200]."""
        row = self._latents.row_at(manifest, seconds)
        (pts,) = self._latents.pts(manifest, row, row + 1)
        time = (int(pts) - manifest.origin_pts) * manifest.time_base
        return time, self._latents.latents(manifest, row, row + 1)
